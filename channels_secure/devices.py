"""The endpoints with which users see their own open sockets and end them (OWASP ASVS 7.5.2)."""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import Error as DatabaseTrouble
from django.db import router
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from channels_secure.auth.base import Identity, digest_of
from channels_secure.auth.http import identify
from channels_secure.connections import disconnect
from channels_secure.exceptions import Unavailable
from channels_secure.models import RECHECK, LiveConnection, Revocation, policy_change
from channels_secure.models.live import LiveConnectionQuerySet
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.views import record_refusal, refuse, respond, standing

# A user with more is shown the newest; ending all others ends as many at once.
MAX_LISTED = 500

Endpoint = Callable[..., HttpResponse]
Answer = HttpResponse | Denial


def _for_owners(*methods: str) -> Callable[[Callable[..., Answer]], Endpoint]:
    """An endpoint for a user's own things: by session, with a CSRF token for what changes something, or by Bearer."""

    def decorate(view: Callable[..., Answer]) -> Endpoint:
        @login_not_required
        @csrf_exempt
        @wraps(view)
        def endpoint(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            if request.method not in methods:
                return _wrong_method(methods)
            identity: Identity | Denial | None = None
            try:
                identity = identify(request)
                answer: Answer = identity if isinstance(identity, Denial) else _serve(view, request, identity, kwargs)
            except (DatabaseTrouble, Unavailable) as error:
                answer = Denial(reason=Reason.UNAVAILABLE, detail=type(error).__name__)
            if isinstance(answer, HttpResponse):
                return answer
            if answer.reason is not Reason.NOT_FOUND:
                record_refusal(
                    request, answer, identity.user if isinstance(identity, Identity) else None, "connections"
                )
            return refuse(answer)

        return endpoint

    return decorate


def _serve(view: Callable[..., Answer], request: HttpRequest, identity: Identity, kwargs: dict[str, Any]) -> Answer:
    return standing(identity) or view(request, identity, **kwargs)


@_for_owners("GET", "DELETE")
def connections(request: HttpRequest, identity: Identity) -> Answer:
    """List the user's open sockets, or end all but those of this session and the one that `?keep=` names."""
    rows = list(_own(identity)[:MAX_LISTED])
    if request.method == "GET":
        return respond(200, {"connections": [_shown(row, identity) for row in rows]})
    kept = request.GET.get("keep")
    others = [row.pk for row in rows if not _is_current(row, identity) and row.pk != kept]
    return _end(others, identity)


@_for_owners("DELETE")
def connection(request: HttpRequest, identity: Identity, connection_id: str) -> Answer:
    """End one of the user's own open sockets; another's is not found."""
    own = _own(identity).filter(pk=connection_id)
    if not own.exists():
        return Denial(reason=Reason.NOT_FOUND)
    return _end([connection_id], identity)


def _own(identity: Identity) -> LiveConnectionQuerySet:
    return LiveConnection.objects.live().filter(user=identity.user.pk).order_by("-opened_at")


def _is_current(row: LiveConnection, identity: Identity) -> bool:
    """Whether the socket was opened by the session that asks."""
    return identity.session_key is not None and row.session == digest_of(identity.session_key)


def _shown(row: LiveConnection, identity: Identity) -> dict[str, Any]:
    return {
        "id": row.connection_id,
        "address": row.ip,
        "user_agent": row.user_agent,
        "path": row.path,
        "credentials": row.credentials,
        "since": _moment(row.opened_at),
        "last_heard": _moment(row.heard_at),
        "current": _is_current(row, identity),
    }


def _moment(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="seconds")


def _end(connection_ids: list[str], identity: Identity) -> HttpResponse:
    # One change of policy for all, and none for what has been decided already: rows go when their process says so.
    using = router.db_for_write(Revocation)
    ordered = _ordered(using, connection_ids)
    if not ordered.issuperset(connection_ids):
        with policy_change() as using:
            # Once more, now that nobody else makes changes.
            ordered = _ordered(using, connection_ids)
            for connection_id in connection_ids:
                if connection_id not in ordered:
                    disconnect(connection_id=connection_id, by=identity.user)
    # Accepted and not yet done: other processes close theirs within POLICY_REFRESH_INTERVAL.
    return respond(202, {"ended": connection_ids})


def _ordered(using: str, connection_ids: list[str]) -> set[str]:
    """Those of some connections whose end has been ordered."""
    rows = Revocation.objects.using(using).active().exclude(reason=RECHECK)
    found = rows.filter(kind=Revocation.Kind.CONNECTION, subject__in=connection_ids)
    return set(found.values_list("subject", flat=True))


def _wrong_method(methods: tuple[str, ...]) -> HttpResponse:
    response = respond(405, Denial(reason=Reason.BAD_REQUEST, message=f"Use {' or '.join(methods)}.").frame(fatal=True))
    response["Allow"] = ", ".join(methods)
    return response
