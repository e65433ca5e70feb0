"""What an ending means: may the client come back, and when; decided from close codes, error frames and HTTP answers.

Pure: standard library, msgspec and the server's own table of reasons; the time is an argument.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from channels_secure.policy.decisions import RULES, Reason

# Seconds: nobody is kept away for longer by one answer, whoever gave it.
MAX_RETRY_AFTER = 86_400.0


class Headers(Protocol):
    """Headers as any library gives them; names in any case."""

    def items(self) -> Iterable[tuple[str, str]]: ...


class Again(StrEnum):
    """Whether a client comes back by itself; `DOUBTFUL` is a few times only, because nobody said why it was refused."""

    YES = "yes"
    NO = "no"
    DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a connection, or an attempt at one, ended.

    Args:
        again: whether to come back.
        reason: the server's slug (docs/reference/reasons.md), None where it gave none.
        code: the close code of a socket that was open, None for a lost one.
        status: the HTTP status of a refused handshake.
        message: plain words for people: the server's, or what happened here.
        retry_after: seconds before another attempt can succeed.
        shared: everybody else has lost their connection at this moment too, so all would come back at once.
    """

    again: Again
    reason: str | None = None
    code: int | None = None
    status: int | None = None
    message: str = ""
    retry_after: float | None = None
    shared: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether the server's application has simply finished."""
        return self.code == 1000 and self.reason is None

    def __str__(self) -> str:
        told = [f"HTTP {self.status}" if self.status else "", f"code {self.code}" if self.code else ""]
        return " ".join(filter(None, [self.reason or "no reason given", f"({', '.join(filter(None, told))})"])) + (
            f": {self.message}" if self.message else ""
        )


# RFC 6455 section 7.4.1 and the IANA registry of close codes: going away, restart, and try again later.
_SHARED = frozenset({1001, 1012, 1013})
# Below 3000 are accidents, but for these two: done, and against a policy.
_NORMAL, _POLICY, _FIRST_DECISION = 1000, 1008, 3000

# Statuses that pass by themselves; the 5xx do too.
_PASSING_STATUSES = frozenset({408, 425, 429})


def _by_code() -> dict[int, Again]:
    """What a close code of ours means by itself: come back only where every reason that shares it says so."""
    rules: dict[int, list[bool]] = {}
    for rule in RULES.values():
        rules.setdefault(rule.close, []).append(rule.reconnect != "no")
    return {code: Again.YES if all(answers) else Again.NO for code, answers in rules.items()}


_OURS = _by_code()
_REASONS = {reason.value: rule for reason, rule in RULES.items()}


def of_close(code: int | None, reason: str = "") -> Ending:
    """Read a close frame; `code` is None for a connection that was lost without one.

    A code from 3000 on that is not in the package's table is the application's own: it meant to close.
    """
    if code is None or (code < _FIRST_DECISION and code not in (_NORMAL, _POLICY)):
        return Ending(again=Again.YES, code=code, shared=code in _SHARED)
    rule = _REASONS.get(reason)
    if rule is not None:
        return Ending(again=_again(rule.reconnect != "no"), reason=reason, code=code, shared=_is_restart(reason))
    return Ending(again=_OURS.get(code, Again.NO), code=code, shared=code == RULES[Reason.SERVER_RESTART].close)


def of_frame(frame: Mapping[str, Any]) -> Ending | None:
    """Read a fatal error frame, which is also the body of an HTTP refusal; None for anything else."""
    reason = frame.get("code")
    if frame.get("type") != "error" or frame.get("fatal") is not True or not isinstance(reason, str):
        return None
    wait = read_seconds(frame.get("retry_after"))
    rule = _REASONS.get(reason)
    reconnect = frame.get("reconnect", rule is not None and rule.reconnect != "no")
    return Ending(
        again=_again(reconnect is True),
        reason=reason,
        code=None if rule is None else rule.close,
        message=text_of(frame.get("message")),
        retry_after=wait,
        # The server spreads its clients itself when it says when.
        shared=_is_restart(reason) and wait is None,
    )


def of_response(status: int, headers: Headers, body: bytes, *, now: float) -> Ending:
    """Read an HTTP answer in place of an upgrade, or of a ticket.

    Daphne answers every refusal with a bare 403, whatever its reason: that is doubtful. A redirect is not followed, as
    in a browser (WHATWG Fetch, "establish a WebSocket connection"): credentials would go where nobody meant them to.

    Args:
        now: Unix time, for a `Retry-After` that is a date (RFC 9110 section 10.2.3).
    """
    wait = next((_after(value, now) for name, value in headers.items() if name.lower() == "retry-after"), None)
    told = of_frame(_object(body))
    if told is not None:
        return replace(
            told, status=status, code=None, retry_after=wait if told.retry_after is None else told.retry_after
        )
    if status in _PASSING_STATUSES or status >= 500:
        again = Again.YES
    else:
        again = Again.DOUBTFUL if status == 403 or status < 300 else Again.NO
    return Ending(again=again, status=status, retry_after=wait)


def read_seconds(value: Any) -> float | None:
    """Seconds that a server named, within reason; None for what is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return float(min(value, MAX_RETRY_AFTER))


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _after(value: str, now: float) -> float | None:
    text = value.strip()
    if text.isascii() and text.isdigit():
        return read_seconds(int(text[:9]))
    try:
        wait = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return read_seconds(wait) if math.isfinite(wait) and wait > 0 else None


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _again(reconnect: bool) -> Again:
    return Again.YES if reconnect else Again.NO


def _is_restart(reason: str) -> bool:
    return reason == Reason.SERVER_RESTART
