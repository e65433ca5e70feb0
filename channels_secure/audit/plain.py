"""Text and data from anywhere, made fit to be stored, shown and logged.

PostgreSQL refuses NUL and lone surrogates and loses the whole batch for one of them; line breaks, escape sequences and
bidirectional overrides lie to whoever reads a log (OWASP Logging cheat sheet, CWE-117, Trojan Source).
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

TEXT_LENGTH = 256
MARK = "…[cut]"
# A detail is a note, not a document: so many values in all, so many levels.
MAX_VALUES = 48
MAX_LEVELS = 3
NAME_LENGTH = 64
# Integers that 64 bits hold.
EXACT = 2**63

_HAZARDS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def text(value: Any, length: int = TEXT_LENGTH) -> str:
    """Plain text of at most `length` characters; what cannot be shown becomes visible, what is cut off is marked."""
    if type(value) is not str:
        value = _as_text(value)
    if len(value) <= length and value.isprintable():
        return value  # type: ignore[no-any-return]  # `value` came as Any
    # Cut first: a header of a megabyte costs no more than a short one.
    shown = _HAZARDS.sub(_visible, value[: length + 1])
    return shown if len(shown) <= length else shown[: length - len(MARK)] + MARK


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return str.__str__(value)  # a plain str, which an enum member or a SafeString is not
    if isinstance(value, bytes):
        return value[: TEXT_LENGTH * 4].decode("utf-8", "backslashreplace")
    return str(value)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def detail(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """A JSON object that every database stores: no NaN, no integer beyond 64 bits, bounded in values and levels."""
    if not value:
        return {}
    return _Plainer().mapping(value, MAX_LEVELS)


@lru_cache(maxsize=256)
def _name(key: str) -> str:
    # Most details have the same few.
    return text(key, NAME_LENGTH)


class _Plainer:
    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def mapping(self, value: Mapping[Any, Any], levels: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in value.items():
            self.left -= 1
            if self.left < 0:
                plain[MARK] = True
                break
            kind = type(item)
            if kind is str:
                shown: Any = text(item)
            elif kind is bool or item is None or (kind is int and -EXACT <= item < EXACT):
                shown = item
            else:
                shown = self.any(item, levels - 1)
            plain[_name(key) if type(key) is str and len(key) <= NAME_LENGTH else text(key, NAME_LENGTH)] = shown
        return plain

    def any(self, value: Any, levels: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            # str() raises on integers of more than 4,300 digits (CVE-2020-10735); hex() does not.
            return int(value) if -EXACT <= value < EXACT else hex(value)[:TEXT_LENGTH]
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, Mapping) and levels > 0:
            return self.mapping(value, levels)
        if isinstance(value, list | tuple | set | frozenset) and levels > 0:
            return [self.any(item, levels - 1) for item in islice(value, MAX_VALUES) if self._spend()]
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return MARK
        return text(value)

    def _spend(self) -> bool:
        self.left -= 1
        return self.left >= 0
