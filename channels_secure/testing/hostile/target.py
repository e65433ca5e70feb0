"""What is attacked, and the honest client that shows it to be open at all: a refusal of everybody proves nothing."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from django.conf import settings as django_settings

from channels_secure import database
from channels_secure.auth.subprotocols import BEARER_PREFIX, SUBPROTOCOL
from channels_secure.auth.tickets import aissue_ticket
from channels_secure.conf import get_settings
from channels_secure.middleware import Application
from channels_secure.testing.arrivals import log_in
from channels_secure.testing.communicator import CLIENT, SecureCommunicator
from channels_secure.testing.hostile import forgeries
from channels_secure.testing.hostile.verdicts import AttackSucceeded, NotApplicable, TargetUnfit
from channels_secure.testing.hostile.visit import Visit, enter, has_closed
from channels_secure.testing.outcome import Outcome
from channels_secure.testing.servers import Server

How = Mapping[str, Any]
# A refusal for one of these says nothing about what was tried.
BESIDE_THE_POINT = frozenset({"unavailable", "handshake_timeout", "rate_limited", "connection_limit", "server_restart"})
# RFC 5737: the address of a proxy in front, where the settings count proxies without naming them.
PROXY = "203.0.113.254"


@dataclass(slots=True, kw_only=True)
class Target:
    """Somebody's application, and what `Attack.run` was told about it."""

    application: Application
    path: str
    user: Any
    message: Mapping[str, Any] | None
    server: Server
    patience: float
    options: How
    _honest: How | None = field(default=None, init=False)

    async def honest(self) -> How:
        """How a client comes who must be let in: as the user, by the first kind of credential that is read here.

        Raises:
            TargetUnfit: nobody is let in.
        """
        if self._honest is None:
            seen = []
            async for how in self._credentials():
                refused = await self._refused(how)
                if refused is None:
                    self._honest = how
                    break
                seen.append(refused)
            else:
                whom = "nobody" if self.user is None else f"not even {self.user}"
                words = "; ".join(dict.fromkeys(seen))
                raise TargetUnfit(f"{whom} is let in at {self.path}, without any attack: {words}; see the log")
        # A ticket is good for one attempt.
        return {"ticket": await aissue_ticket(self.user)} if "ticket" in self._honest else self._honest

    async def with_session(self) -> How:
        """How the user comes with a session.

        Raises:
            NotApplicable: no session opens the socket.
        """
        how = {"session": await database.write(log_in, self._somebody())}
        return await self._works(how, "sessions are not read here")

    async def with_token(self, token: str | None = None) -> How:
        """How a token is brought, by the first of TOKEN_SOURCES; the user's own must be accepted.

        Raises:
            NotApplicable: no access token opens the socket.
        """
        honest = await database.run(forgeries.access_token, self._somebody())
        await self._works(self._bringing(honest), "access tokens are not read here")
        return self._bringing(honest if token is None else token)

    async def with_ticket(self) -> How:
        """How the user comes with a ticket, which is good for one attempt.

        Raises:
            NotApplicable: no ticket opens the socket.
        """
        await self._works({"ticket": await aissue_ticket(self._somebody())}, "tickets are not read here")
        return {"ticket": await aissue_ticket(self.user)}

    async def repels(self, what: str, **how: Any) -> str:
        """Insist that a handshake is refused; returns how.

        Args:
            what: comes with it, for the words of the failure.

        Raises:
            AttackSucceeded: it was not, or it made the application crash.
        """
        visit = await self.knock(**how)
        if visit.outcome.accepted:
            raise AttackSucceeded(f"the socket opened for {what}")
        return f"{what}: {visit.outcome}"

    async def knock(self, **how: Any) -> Visit:
        """Connect and leave."""
        async with self.visit(**how) as visit:
            return visit

    @asynccontextmanager
    async def visit(self, *, limited: bool = False, **how: Any) -> AsyncIterator[Visit]:
        """Connect, and stay for the length of the block.

        Args:
            limited: a refusal by a rate or a limit is an answer.

        Raises:
            AttackSucceeded: the application crashed.
            TargetUnfit: it gave no answer, or was refused for a reason that says nothing.
        """
        socket = self.communicator(**how)
        try:
            outcome = await socket.shake_hands()
        except TimeoutError:
            raise TargetUnfit(f"{self.path} gives no answer to a handshake") from None
        if outcome.status == 500 or outcome.refusal == "internal_error":
            raise AttackSucceeded(f"the application crashed: {outcome}; see the log")
        if outcome.refusal in BESIDE_THE_POINT and not limited:
            raise TargetUnfit(f"{self.path} cannot be judged: {outcome}")
        if outcome.accepted and has_closed(socket):
            outcome = Outcome(accepted=False, code=(await socket.closing())[0])
        try:
            yield await enter(socket, outcome)
        finally:
            await socket.disconnect()

    def communicator(self, *, client: str = CLIENT, **how: Any) -> SecureCommunicator:
        """A client that comes from an address, through the proxies that the settings say are there.

        Raises:
            NotApplicable: no browser can do this, and the server is one.
        """
        merged = {**self.options, **how}
        if "headers" in how:
            merged["headers"] = [*self.options.get("headers", ()), *how["headers"]]
        peer, forwarded = self._through_proxies(client)
        try:
            socket = SecureCommunicator(
                self.application, merged.pop("path", self.path), client=peer, server=self.server, **merged
            )
        except ValueError as error:
            raise NotApplicable(str(error)) from None
        socket.scope["headers"].extend(forwarded)
        return socket

    def asking(self, name: str, value: str) -> How:
        """The same path with one more parameter in its query."""
        return {"path": f"{self.path}{'&' if '?' in self.path else '?'}{name}={quote(value)}"}

    def _is_the_user(self, visit: Visit) -> bool:
        """Whether the guards, where there are any, took the client for the user."""
        if visit.connection is None or self.user is None:
            return True
        return visit.connection.user_key == str(self.user.pk)

    async def _credentials(self) -> AsyncIterator[How]:
        if self.user is None:
            yield {}
            return
        yield {"session": await database.write(log_in, self.user)}
        if forgeries.can_be_made():
            yield self._bringing(await database.run(forgeries.access_token, self.user))
        yield {"ticket": await aissue_ticket(self.user)}

    async def _works(self, how: How, otherwise: str) -> How:
        refused = await self._refused(how)
        if refused is not None:
            raise NotApplicable(f"{otherwise}: the user's own was {refused}")
        return how

    async def _refused(self, how: How) -> str | None:
        """How an honest client is refused; None when it is let in.

        Raises:
            TargetUnfit: the application crashes over it.
        """
        try:
            visit = await self.knock(**how)
        except AttackSucceeded as error:
            raise TargetUnfit(f"{self.path}, without any attack: {error}") from None
        if visit.outcome.accepted:
            return None if self._is_the_user(visit) else "let in, but as somebody else"
        return str(visit.outcome)

    def _somebody(self) -> Any:
        if self.user is None:
            raise NotApplicable("no user= was given")
        return self.user

    def _bringing(self, token: str) -> How:
        """A token where the settings look for one."""
        settings = get_settings()
        sources = settings.token_sources
        if "header" in sources and self.server != "browser":
            return {"token": token}
        if "subprotocol" not in sources and "cookie" in sources:
            return {"cookies": {settings.token_cookie_name: token}}
        if "subprotocol" not in sources and "query" in sources:
            return self.asking(settings.token_query_name, token)
        offered = [*self.options.get("subprotocols", ()), SUBPROTOCOL, f"{BEARER_PREFIX}{token}"]
        return {"subprotocols": list(dict.fromkeys(offered))}

    def _through_proxies(self, client: str) -> tuple[str, list[tuple[bytes, bytes]]]:
        """The peer whom the server sees, and what the proxies before it add."""
        proxies = get_settings().proxies
        header = proxies.header
        peer = next((str(network[0]) for network in sorted(proxies.networks.networks, key=str)), PROXY)
        if proxies.count is not None:
            entries = [client, *[peer] * (proxies.count - 1)]
            return peer, [(header, ", ".join(entries).encode()), *_said_secure()]
        if self.server == "daphne" and get_settings().require_wss and proxies.networks:
            # Its scope does not tell whether TLS was spoken: only a proxy in front knows.
            return peer, [(header, client.encode()), *_said_secure()]
        return client, list(_said_secure()) if self.server == "daphne" else []


def _said_secure() -> Iterator[tuple[bytes, bytes]]:
    yield b"x-forwarded-proto", b"https"
    if django_settings.SECURE_PROXY_SSL_HEADER is not None:
        name, value = django_settings.SECURE_PROXY_SSL_HEADER
        raw = name.removeprefix("HTTP_").replace("_", "-").lower().encode()
        if raw != b"x-forwarded-proto":
            yield raw, value.encode()
