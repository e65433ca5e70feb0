"""What JSON parsers disagree about, refused whatever the schema (RFC 7493, "I-JSON").

msgspec lets some of it pass: the last of two equal keys wins, numbers in skipped members are not looked at, and a NUL
character reaches a PostgreSQL text column. `find_flaw` is exact and slow (it parses again); callers go there only when
a cheap test cannot rule a flaw out.
"""

import json
import math
import re
from typing import Any

# RFC 7493 section 2.2: beyond this an integer is not the same number in every language that reads it.
MAX_INTEGER = 2**53 - 1
DUPLICATE = "Duplicate key"
TOO_DEEP = "Nested too deeply"
BAD_NUMBER = "Number out of range"
NUL = "Contains a NUL character"
NOT_JSON = "Not valid JSON"

# A number can be out of range only if it has a long run of digits or a three-digit exponent.
_SUSPICIOUS_NUMBER = re.compile(r"[0-9]{16}|[eE][+-]?[0-9]{3}")


class _Flaw(ValueError):
    """Carries what is wrong out of the parser's hooks."""


def is_suspicious(text: str, max_depth: int) -> bool:
    """Whether numbers or nesting could break a limit; a cheap test that may be wrong only towards True."""
    return _openings(text) > max_depth or _SUSPICIOUS_NUMBER.search(text) is not None


def find_flaw(text: str, max_depth: int) -> str | None:
    """Say in plain words what is wrong with a JSON text, or None."""
    try:
        value = _loads(text)
        # A look at every value takes milliseconds, so only where the text leaves a doubt.
        if "\\u0000" in text or _openings(text) > max_depth:
            return _walk(value, max_depth)
    except _Flaw as flaw:
        return str(flaw)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        return NOT_JSON
    return None


def _openings(text: str) -> int:
    return text.count("[") + text.count("{")


def _loads(text: str) -> Any:
    if _SUSPICIOUS_NUMBER.search(text) is None:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_constant)
    return json.loads(
        text, object_pairs_hook=_distinct, parse_constant=_constant, parse_int=_integer, parse_float=_number
    )


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Flaw(DUPLICATE)
    return value


def _integer(digits: str) -> int:
    # int() of a long text takes quadratic time, so the length comes first.
    if len(digits) > 17 or abs(number := int(digits)) > MAX_INTEGER:
        raise _Flaw(BAD_NUMBER)
    return number


def _number(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise _Flaw(BAD_NUMBER)
    return number


def _constant(name: str) -> float:
    raise _Flaw(BAD_NUMBER)


def _walk(value: Any, max_depth: int) -> str | None:
    """Breadth first, one level at a time, so that depth needs no recursion."""
    level = [value]
    depth = 0
    while level:
        below: list[Any] = []
        nests = False
        for item in level:
            kind = type(item)
            if kind is str:
                if "\x00" in item:
                    return NUL
            elif kind is dict:
                nests = True
                below.extend(item)
                below.extend(item.values())
            elif kind is list:
                nests = True
                below.extend(item)
        depth += nests
        if depth > max_depth:
            return TOO_DEEP
        level = below
    return None
