"""The endpoint that gives out tickets.

Synchronous, so that it runs in the request's own thread and transaction, whether the project is served by WSGI or ASGI,
and with ATOMIC_REQUESTS, which Django does not allow for asynchronous views.
"""

import math
import time
from typing import Any

import msgspec
from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseTrouble
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.views.decorators.csrf import csrf_exempt

from channels_secure import audit, blocklist
from channels_secure.auth.base import Identity
from channels_secure.auth.http import identify
from channels_secure.auth.issuing import checked_path, issue_for
from channels_secure.blocklist.changes import Subject
from channels_secure.conf import get_settings
from channels_secure.connections.events import CREDENTIAL_REASONS, cause_of
from channels_secure.exceptions import Unavailable
from channels_secure.models import AuditEvent, Block
from channels_secure.policy.addresses import resolve_client
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.rates import Rate
from channels_secure.revocation.standing import is_stored
from channels_secure.stores import get_store

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
MAX_BODY = 16_384
_flushed_at = -math.inf


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request, which may be left out."""

    path: str | None = None


@login_not_required
@csrf_exempt
def ticket(request: HttpRequest) -> HttpResponse:
    """Give a ticket to whoever comes with a session and a CSRF token, or with an access token in a Bearer header.

    A request with an access token needs no CSRF token, because no browser adds that header by itself.
    """
    if request.method != "POST":
        response = respond(405, Denial(reason=Reason.BAD_REQUEST, message="Use POST.").frame(fatal=True))
        response["Allow"] = "POST"
        return response
    identity: Identity | Denial | None = None
    try:
        identity = identify(request)
        answer = identity if isinstance(identity, Denial) else _answer(request, identity)
    except (DatabaseTrouble, Unavailable) as error:
        answer = Denial(reason=Reason.UNAVAILABLE, detail=type(error).__name__)
    if isinstance(answer, HttpResponse):
        return answer
    record_refusal(request, answer, identity.user if isinstance(identity, Identity) else None, "ticket")
    return refuse(answer)


def _answer(request: HttpRequest, identity: Identity) -> HttpResponse | Denial:
    denial = standing(identity) or _over_rate(request, identity)
    if denial is not None:
        return denial
    try:
        path = _read_path(request)
    except (ValueError, msgspec.MsgspecError, MultiPartParserError, SuspiciousOperation, OSError) as error:
        return Denial(reason=Reason.BAD_REQUEST, detail=type(error).__name__)
    # Both or neither: a ticket of which the audit trail does not know must not be worth anything.
    with transaction.atomic(using=router.db_for_write(AuditEvent)):
        detail = {"credentials": identity.kind, "path": path}
        audit.write("ticket.issued", **_facts(request, identity.user), detail=detail)
        text = issue_for(identity, path=path)
    lifetime = get_settings().ticket_lifetime
    return respond(201, {"ticket": text, "expires_in": int(lifetime) if lifetime == int(lifetime) else lifetime})


def standing(identity: Identity) -> Denial | None:
    """Why the user may have no ticket; asked of the database, because a process without sockets has no snapshot."""
    if is_stored(identity):
        return Denial(reason=Reason.INVALID_CREDENTIALS, detail="token_revoked")
    blocks = Subject(user=identity.user).blocks(router.db_for_write(Block))
    hit = blocklist.longest(
        blocklist.Hit(subject="user", expires_at=None if ends is None else ends.timestamp(), block=key)
        for key, ends in blocks.values_list("pk", "expires_at")
    )
    return None if hit is None else blocklist.denial(hit, time.time())


def _over_rate(request: HttpRequest, identity: Identity) -> Denial | None:
    settings = get_settings()
    if settings.ticket_rate is None:
        return None
    wait = async_to_sync(_take)(
        f"ticket:user:{identity.user.pk}", settings.ticket_rate, isinstance(request, ASGIRequest)
    )
    if not wait:
        return None
    if settings.reports_only:
        detail = {"detail": "ticket"}
        audit.record("policy.would_deny", Reason.RATE_LIMITED, **_facts(request, identity.user), detail=detail)
        return None
    return Denial(reason=Reason.RATE_LIMITED, retry_after=wait, detail="ticket")


async def _take(key: str, rate: Rate, keeps_loop: bool) -> float:
    store = get_store()
    wait = await store.take(key, rate)
    if not keeps_loop:
        # With WSGI the loop is made for this one call, and nobody else would close what the store has opened in it.
        await store.rest()
    return wait


def _read_path(request: HttpRequest) -> str | None:
    """The path that the ticket is to be bound to.

    Raises whatever Django and msgspec raise on a bad body, and ValueError for what is no path.
    """
    if request.content_type in FORMS:
        return checked_path(request.POST.get("path"))
    body = request.body
    if len(body) > MAX_BODY:
        raise ValueError("the body is too long")
    return checked_path(msgspec.json.decode(body, type=Order).path) if body.strip() else None


def refuse(denial: Denial) -> HttpResponse:
    status = denial.rule.status or 403
    response = respond(status, denial.frame(fatal=True))
    if status == 401:
        # RFC 9110 section 11.6.1: a 401 names a scheme.
        response["WWW-Authenticate"] = "Bearer"
    if denial.wait is not None:
        response["Retry-After"] = str(max(1, math.ceil(denial.wait)))
    return response


def respond(status: int, content: dict[str, Any]) -> HttpResponse:
    body = msgspec.json.encode(content)
    return HttpResponse(body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"})


def record_refusal(request: HttpRequest, denial: Denial, user: Any, at: str) -> None:
    """Into the audit trail, whose volume is bounded; written now and then here, where no supervisor may run."""
    global _flushed_at
    kind = "credentials.failed" if denial.reason in CREDENTIAL_REASONS else "handshake.denied"
    audit.record(kind, denial.reason, **_facts(request, user), detail={**cause_of(denial), "at": at})
    now = time.monotonic()
    if now - _flushed_at >= get_settings().audit_flush_interval:
        _flushed_at = now
        audit.flush_now()


def _facts(request: HttpRequest, user: Any) -> Any:
    meta, proxies = request.META, get_settings().proxies
    forwarded = meta.get("HTTP_" + proxies.header.decode("latin-1").upper().replace("-", "_"))
    client = resolve_client(
        meta.get("REMOTE_ADDR") or None, [forwarded.encode("latin-1")] if forwarded else (), proxies
    )
    return {
        "user": user,
        "ip": client.address or client.peer,
        "path": request.path,
        "origin": meta.get("HTTP_ORIGIN", ""),
        "user_agent": meta.get("HTTP_USER_AGENT", ""),
    }
