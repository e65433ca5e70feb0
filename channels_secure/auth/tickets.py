"""Tickets: a credential for one handshake, given out over HTTP and used up by the first socket that comes with it."""

import re
import time
from typing import Any
from urllib.parse import unquote

from django.contrib.auth import HASH_SESSION_KEY, get_user_model
from django.core.exceptions import ValidationError

from channels_secure import database
from channels_secure.auth import session as sessions
from channels_secure.auth import shelves, simplejwt
from channels_secure.auth.base import Identity, digest_of, first_end
from channels_secure.auth.issuing import Grant, aissue_ticket, issue_for, issue_ticket, unseal
from channels_secure.auth.offers import TICKET_PARAMETER
from channels_secure.auth.shelves import EXPIRED, delete_expired
from channels_secure.auth.subprotocols import TICKET_PREFIX
from channels_secure.exceptions import Unavailable
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake

__all__ = ["TicketAuthenticator", "aissue_ticket", "delete_expired", "issue_for", "issue_ticket"]

_TICKET = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class TicketAuthenticator:
    """Accepts `?ticket=…`, or the subprotocol `channels-secure.ticket.…`, once.

    The ticket is used up before anything else about it is looked at, so that a wrong address or path burns it.
    """

    async def authenticate(self, handshake: Handshake) -> Identity | Denial | None:
        offers = list(handshake.query_values(TICKET_PARAMETER))
        offers += [
            name.removeprefix(TICKET_PREFIX) for name in handshake.subprotocols if name.startswith(TICKET_PREFIX)
        ]
        if not offers:
            return None
        if len(offers) > 1:
            return Denial(reason=Reason.BAD_REQUEST, detail="several_tickets")
        if not _TICKET.fullmatch(offers[0]):
            return _refuse("ticket_malformed")
        try:
            return await self._redeem(offers[0], handshake)
        except Unavailable as error:
            return Denial(reason=Reason.UNAVAILABLE, detail=str(error))

    @staticmethod
    async def _redeem(ticket: str, handshake: Handshake) -> Identity | Denial:
        content = await shelves.redeem(digest_of(ticket))
        if content is None:
            return _refuse("ticket_unknown")
        if content == EXPIRED:
            return _refuse("ticket_expired")
        grant = unseal(content, ticket)
        if grant is None:
            return _refuse("ticket_forged")
        if grant.path is not None and handshake.path not in (grant.path, unquote(grant.path)):
            return _refuse("ticket_path")
        address = None if handshake.client.undeclared_proxy else handshake.address
        if grant.ip is not None and grant.ip != str(address):
            return _refuse("ticket_address")
        return await database.run(_identify, grant)


def _refuse(detail: str) -> Denial:
    return Denial(reason=Reason.INVALID_CREDENTIALS, detail=detail)


def _identify(grant: Grant) -> Identity | Denial:
    """Look at everything again that the ticket was issued for."""
    session = None if grant.session_key is None else sessions.identify(grant.session_key)
    if grant.session_key is not None and not isinstance(session, Identity):
        return _refuse(session.detail if isinstance(session, Denial) else "session_logged_out")
    user = session.user if isinstance(session, Identity) else _user(grant.user)
    fault = _fault(grant, user)
    if fault:
        return _refuse(fault)
    if grant.expires_at is not None and grant.expires_at <= time.time():
        return Denial(reason=Reason.CREDENTIALS_EXPIRED, detail="ticket_of_expired_token")
    ends = session.expires_at if isinstance(session, Identity) else None
    return Identity(
        user=user,
        kind="ticket",
        expires_at=first_end(ends, grant.expires_at),
        session_expires_at=ends,
        token_expires_at=grant.expires_at,
        session_key=grant.session_key,
        session=session.session if isinstance(session, Identity) else None,
        jti=grant.jti,
        issued_at=grant.issued_at,
        fingerprint=grant.fingerprint,
        # A token outlives a change of the password, unless it says otherwise itself.
        auth_hash=grant.auth_hash or None if grant.jti is None else None,
    )


def _user(text: str) -> Any:
    model = get_user_model()
    try:
        return model._default_manager.filter(pk=model._meta.pk.to_python(text)).first()
    except ValidationError:
        # The project has another user model than when the ticket was issued.
        return None


def _fault(grant: Grant, user: Any) -> str:
    if user is None:
        return "user_unknown"
    if user._meta.pk.value_to_string(user) != grant.user:
        return "session_of_another_user"
    if not getattr(user, "is_active", True):
        return "user_inactive"
    if grant.auth_hash and not sessions.hash_matches({HASH_SESSION_KEY: grant.auth_hash}, user):
        return "password_changed"
    return "token_blacklisted" if grant.jti is not None and simplejwt.blacklisted([grant.jti]) else ""
