"""How a handshake ended, as a value that can be compared, shown and insisted on."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

# RFC 6455 section 7.1.5: what a client reports of a connection that no close frame has ended.
ABNORMAL = 1006


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Outcome:
    """How a handshake ended, as the client sees it.

    Args:
        accepted: the socket opened, and stayed open.
        status: of the HTTP response, when it was refused before accept.
        headers: of that response, by lower-case name.
        code: the close code, when it was opened only to be told why it closes; 1006 when the client knows no more.
        reason: the close reason that goes with it.
        error: the error frame, or the JSON body of the response.
        subprotocol: the one that the server chose.
    """

    accepted: bool
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    code: int | None = None
    reason: str = ""
    error: Mapping[str, Any] = field(default_factory=dict)
    subprotocol: str | None = None

    def __repr__(self) -> str:
        """Only what is known: most of the fields of an outcome are empty."""
        known = [(each.name, getattr(self, each.name)) for each in fields(self) if _is_known(self, each)]
        return f"Outcome({', '.join(f'{name}={value!r}' for name, value in known)})"

    def __str__(self) -> str:
        if self.accepted:
            return "accepted" + (f", subprotocol {self.subprotocol!r}" if self.subprotocol else "")
        why = f" {self.refusal} ({self.error.get('message', '')})" if self.refusal else ", without a word why"
        if self.status is not None:
            return f"refused before accept: HTTP {self.status}{why}"
        if self.code == ABNORMAL:
            return "failed: the client sees nothing but 1006"
        return f"opened, told why and closed: {self.code}{why}"

    @property
    def refusal(self) -> str:
        """The reason of the refusal as far as this client was told it, for example ``"origin_not_allowed"``."""
        return "" if self.accepted else str(self.error.get("code") or self.reason)

    def assert_accepted(self) -> None:
        """Insist that the socket opened.

        Raises:
            AssertionError: it did not; the words say how it was refused.
        """
        __tracebackhide__ = True
        if not self.accepted:
            raise AssertionError(f"the connection was not accepted but {self}\n{self!r}")

    def assert_refused(self, reason: str = "", *, code: int | None = None, status: int | None = None) -> None:
        """Insist that the socket did not open, and that this is what the client was told.

        Args:
            reason: of the refusal, for example ``"unauthenticated"``; any unless given.
            code: the close code.
            status: of the HTTP response.

        Raises:
            AssertionError: it opened, or the client was told something else.
        """
        __tracebackhide__ = True
        wanted = {"refusal": reason or None, "code": code, "status": status}
        wrong = [
            f"{name} {getattr(self, name)!r} instead of {value!r}"
            for name, value in wanted.items()
            if value is not None and getattr(self, name) != value
        ]
        if self.accepted:
            raise AssertionError(f"the connection was {self}, and should have been refused {reason}".rstrip())
        if wrong:
            raise AssertionError(f"the connection was refused otherwise: {', '.join(wrong)}; it {self}\n{self!r}")


def _is_known(outcome: Outcome, each: Any) -> bool:
    default = each.default if each.default_factory is MISSING else each.default_factory()
    return bool(getattr(outcome, each.name) != default)
