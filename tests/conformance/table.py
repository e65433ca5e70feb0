"""What a row of the table is: a case with an id, what is given, and what is required on the wire and in the audit."""
# ruff: noqa: E501 - a table is read line by line

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from django.test import override_settings

from channels_secure.policy.decisions import RULES, Reason
from tests.conformance.world import World

Driver = Literal["communicator", "daphne", "uvicorn"]
EVERYWHERE: tuple[Driver, ...] = ("communicator", "daphne", "uvicorn")
COMMUNICATOR: tuple[Driver, ...] = ("communicator",)
SERVERS: tuple[Driver, ...] = ("daphne", "uvicorn")

# What is wrong with a credential is an audit row of its own kind; offering none is not.
CREDENTIAL_REASONS = frozenset({Reason.INVALID_CREDENTIALS, Reason.AMBIGUOUS_CREDENTIALS, Reason.CREDENTIALS_EXPIRED})

ALLOWED_ORIGIN = "https://example.com"
# A live server is shared by many cases, whose peer is this machine itself.
LIVE_SETTINGS: Mapping[str, Any] = {
    "ALLOWED_ORIGINS": [ALLOWED_ORIGIN],
    "TRUSTED_PROXIES": [],
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MAX_CONNECTIONS": {"ip": None, "user": None},
    "MESSAGE_RATES": {"connection": None, "user": None},
    "ERROR_BUDGET": None,
    "AUTO_BLOCK_AFTER": None,
}
# Attempts and strikes are rows of their own; here they would only make one case depend on the other.
SETTINGS: Mapping[str, Any] = {
    "ALLOWED_ORIGINS": [ALLOWED_ORIGIN],
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MESSAGE_RATES": {"user": None},
    "AUTO_BLOCK_AFTER": None,
}
ANY_REF = "any"
# A client sends this word where an answer might repeat it; it may come back nowhere.
CANARY = "canarybird"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An upgrade request; header values are bytes as they go on the wire.

    `after` is a request that was made before this one, and how that one must have ended.
    """

    path: str = "/open/"
    origin: str | bytes | None = ALLOWED_ORIGIN
    headers: tuple[tuple[bytes, bytes], ...] = ()
    subprotocols: tuple[str, ...] = ()
    cookies: Mapping[str, str] = field(default_factory=dict)
    # What the server says of the transport; a raw socket has none to offer but its own.
    scheme: str = "wss"
    after: "tuple[Request, Verdict] | None" = None

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """All headers but Host, Origin and the subprotocols."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode("latin-1")
        return [*self.headers, *([(b"cookie", cookies)] if cookies else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a handshake must end.

    Args:
        reason: of the refusal; None when the socket must open.
        told: by an HTTP response before accept, or by an accepted socket that says why and closes.
        or_server: the server itself may refuse with a 4xx or 5xx before the application is reached.
        subprotocol: what must have been chosen.
    """

    reason: Reason | None = None
    told: Literal["http", "socket"] = "http"
    or_server: bool = False
    subprotocol: str | None = None
    retry_after: bool = False

    def __str__(self) -> str:
        if self.reason is None:
            return "accepted"
        rule = RULES[self.reason]
        text = f"HTTP {rule.status}" if self.told == "http" else f"close {rule.close}"
        return f"{text} `{self.reason}`" + (", or the server's own refusal" if self.or_server else "")

    @property
    def kind(self) -> str:
        """The kind of the one audit row."""
        if self.reason is None:
            return "connection.accepted"
        return "credentials.failed" if self.reason in CREDENTIAL_REASONS else "handshake.denied"


LET_IN = Verdict()


def http(reason: Reason, *, or_server: bool = False) -> Verdict:
    return Verdict(reason=reason, told="http", or_server=or_server)


def socket(reason: Reason) -> Verdict:
    return Verdict(reason=reason, told="socket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """A row of 4.1 to 4.3 that is one upgrade request.

    `settings` are the package's, `django` those of the project around it. `address` is what the audit row must name as
    the client's; None is the peer's own.
    """

    id: str
    row: int
    given: str
    request: Callable[[World], Request]
    required: Verdict
    on: tuple[Driver, ...] = EVERYWHERE
    settings: Mapping[str, Any] = field(default_factory=dict)
    django: Mapping[str, Any] = field(default_factory=dict)
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What must come back for a message: a value, an error frame on an open socket, or a close.

    Args:
        value: the whole frame.
        error: the reason of a non-fatal error frame.
        close: the reason of a close, after a fatal error frame.
        path: of the first error in the error frame.
        ref: the message's own id; by default whatever the frame itself says its id is, or none at all.
    """

    value: Any = None
    error: Reason | None = None
    close: Reason | None = None
    path: str | None = None
    ref: str | int | None = ANY_REF

    def __str__(self) -> str:
        if self.close is not None:
            return f"close {RULES[self.close].close} `{self.close}`"
        if self.error is not None:
            return f"error frame `{self.error}`" + (f" at `{self.path}`" if self.path else "")
        return "handled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A row of 4.4 that is one frame: text, or bytes for a binary frame."""

    id: str
    row: int
    given: str
    frame: str | bytes
    required: Answer
    path: str = "/open/"
    on: tuple[Driver, ...] = EVERYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """A row of 4.2 that is one frame on an open socket, which ends with its token or session.

    Args:
        frame: the text of the frame; `required` without an error means `token_refreshed`.
        opened: the request that opened the socket; with an access token of Alice unless given.
        lasts: seconds that a refreshed socket must be told are left, at most.
        earlier: how many such frames were sent before, whose answers do not matter.
    """

    id: str
    row: int
    given: str
    frame: Callable[[World], str]
    required: Answer
    opened: Callable[[World], Request]
    lasts: int = 300
    earlier: int = 0
    on: tuple[Driver, ...] = EVERYWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A row that takes more than one request or frame; the test function itself is marked with its id."""

    id: str
    row: int
    given: str
    required: str
    on: tuple[Driver, ...]


Case = Handshake | Message | Refresh | Program
TABLE: dict[str, Case] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A row that tests elsewhere play: faults of stores, databases and processes, and races.

    Args:
        played: where: in one process, or on which servers.
        tests: their names, as pytest has them, without parameters.
    """

    id: str
    rows: tuple[int, ...]
    given: str
    required: str
    played: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A test that shows what the right way is for: with the wrong one in its place, what it prevents happens."""

    id: str
    wrong: str
    shown: str
    tests: tuple[str, ...]


SCENARIOS: dict[str, Scenario] = {}
CONTROLS: dict[str, Control] = {}
# Rows that no ASGI application can influence; facts about servers, not about the package.
OUT_OF_REACH = {
    21: "A silent TCP connection or dripping headers never reach the application: put a proxy with a header time-out in front.",
    62: "Frames and pings are the server's: tiny fragments and ping floods need a proxy or a bandwidth limit.",
}


def configured(case: Handshake, **changes: Any) -> override_settings:
    """The settings of a case, for as long as it is driven."""
    return override_settings(CHANNELS_SECURE={**SETTINGS, **case.settings, **changes}, **case.django)


def add(case: Case) -> None:
    if case.id in TABLE:
        raise ValueError(f"two cases are called {case.id}")
    TABLE[case.id] = case
