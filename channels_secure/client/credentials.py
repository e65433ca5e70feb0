"""What a handshake is opened with: a ticket, an access token or a session, fetched anew for every attempt."""

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from channels_secure.auth.subprotocols import BEARER_PREFIX, SUBPROTOCOL, TICKET_PREFIX
from channels_secure.client.endings import Again, Ending
from channels_secure.client.errors import Refused
from channels_secure.policy.decisions import Reason

# None says that nobody is logged in.
Fetch = Callable[[], str | Awaitable[str | None] | None]

# RFC 6750 section 2.1, and what `secrets.token_urlsafe` makes of a ticket: nothing that could end a header.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
# RFC 6265 section 4.1.1: a cookie's value.
_COOKIE = re.compile(r"[!#-+\--:<-\[\]-~]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The headers and subprotocols of one attempt, neither of which is ever shown.

    `is_ambient` ones come with a cookie, which a server takes from known origins only.
    """

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    subprotocols: tuple[str, ...] = field(default=(), repr=False)
    is_ambient: bool = False


class Credentials:
    """Where the secrets of a socket come from; at most one of `ticket`, `token` and `session`.

    Args:
        ticket: fetches a ticket; a function, because each works once.
        token: an access token, or what fetches one.
        by_subprotocol: whether a token goes as a subprotocol, as in a browser, and not in the Authorization header.
        session: the session key, or what fetches it.
        session_cookie: the server's `SESSION_COOKIE_NAME`.
        get_token: fetches a newer access token for a socket that is open; `token`, if that is a function.
        subprotocols: the application's own.
    """

    def __init__(
        self,
        *,
        ticket: Fetch | None = None,
        token: str | Fetch | None = None,
        by_subprotocol: bool = False,
        session: str | Fetch | None = None,
        session_cookie: str = "sessionid",
        get_token: Fetch | None = None,
        subprotocols: tuple[str, ...] = (),
    ) -> None:
        if sum(each is not None for each in (ticket, token, session)) > 1:
            raise ValueError("give one of ticket, token and session")
        if isinstance(ticket, str):
            raise TypeError("a ticket works once: give a function that fetches one")
        if isinstance(token, str) and get_token is not None:
            raise ValueError("a token that can be newer is given as the function that fetches it")
        if isinstance(token, str):
            _checked(token, _TOKEN, "token")
        if isinstance(session, str):
            _checked(session, _COOKIE, "session")
        self._ticket, self._token, self._session = ticket, token, session
        self._by_subprotocol = by_subprotocol
        self._session_cookie, self._subprotocols = session_cookie, subprotocols
        self._get_token = token if get_token is None and callable(token) else get_token

    async def offer(self) -> Offer:
        """Fetch what the next attempt is opened with.

        Raises:
            Refused: nobody is logged in, or what was fetched could not stand in a header; never with the value itself.
            Exception: whatever the function that fetches raises.
        """
        if self._ticket is not None:
            return self._as_subprotocol(TICKET_PREFIX, _fetched(await fetch(self._ticket), _TOKEN, "ticket"))
        if self._token is not None:
            token = _fetched(await fetch(self._token), _TOKEN, "token")
            if self._by_subprotocol:
                return self._as_subprotocol(BEARER_PREFIX, token)
            return Offer(headers=(("Authorization", f"Bearer {token}"),), subprotocols=self._subprotocols)
        if self._session is not None:
            key = _fetched(await fetch(self._session), _COOKIE, "session")
            cookie = ("Cookie", f"{self._session_cookie}={key}")
            return Offer(headers=(cookie,), subprotocols=self._subprotocols, is_ambient=True)
        return Offer(subprotocols=self._subprotocols)

    async def newer_token(self) -> str | None:
        """Fetch an access token for a socket that is open; None where nobody can."""
        return None if self._get_token is None else await fetch(self._get_token)

    def _as_subprotocol(self, prefix: str, secret: str) -> Offer:
        own = () if SUBPROTOCOL in self._subprotocols else (SUBPROTOCOL,)
        return Offer(subprotocols=(*self._subprotocols, *own, prefix + secret))


async def fetch(source: str | Fetch) -> str | None:
    """A secret, from where it comes; None when nobody is logged in."""
    if isinstance(source, str):
        return source
    found = source()
    return await found if inspect.isawaitable(found) else found


def _fetched(value: object, pattern: re.Pattern[str], name: str) -> str:
    if value is None:
        raise Refused(Ending(again=Again.NO, reason=Reason.UNAUTHENTICATED.value, message="there are no credentials"))
    try:
        return _checked(value, pattern, name)
    except ValueError as error:
        # The next would be no better, and whoever waits to be let in would wait for ever.
        raise Refused(Ending(again=Again.NO, reason=Reason.BAD_REQUEST.value, message=str(error))) from None


def _checked(value: object, pattern: re.Pattern[str], name: str) -> str:
    # A line break in a header would begin another one.
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"the {name} is empty or has characters that cannot be sent")
    return value
