"""Any well-formed JSON value, for consumers that declare no message types."""

from typing import Any

import msgspec

from channels_secure.policy.decisions import Denial, FieldError, Reason
from channels_secure.policy.messages import CONTROL_TYPES, Parsed, RefreshToken, Refused, read_id
from channels_secure.policy.schemas import Ref
from channels_secure.policy.wellformed import MAX_INTEGER, NOT_JSON, TOO_DEEP, find_flaw

# The `type` of a value: no declared type is empty.
VALUE = ""
_decode = msgspec.json.Decoder().decode


class ValueDecoder:
    """Decodes frames into Python's own types.

    Args:
        max_depth: how deeply objects and arrays may nest.
        controls: whether ``ping``, ``pong`` and ``refresh_token`` objects are the package's own frames.
        raw: whether the consumer wants the checked text, because it decodes it itself.
    """

    __slots__ = ("_controls", "_raw", "max_depth")

    def __init__(self, *, max_depth: int, controls: bool, raw: bool) -> None:
        self.max_depth = max_depth
        self._controls = controls
        self._raw = raw

    def decode(self, text: str) -> Parsed | Refused:
        """Return the value, or why the text is none. Never raises on client input."""
        try:
            value = _decode(text)
        except RecursionError:
            return _invalid(TOO_DEEP)
        except (msgspec.MsgspecError, UnicodeError):
            return _invalid(NOT_JSON)
        if not _is_plain(value, text):
            flaw = find_flaw(text, self.max_depth)
            if flaw is not None:
                return _invalid(flaw)
        if self._controls and type(value) is dict and type(kind := value.get("type")) is str and kind in CONTROL_TYPES:
            return _control(kind, value)
        return VALUE, None, text if self._raw else value


def _is_plain(value: Any, text: str) -> bool:
    """Whether a cheap look shows that nothing is wrong: an object of plain members, with a colon for each key only."""
    if type(value) is not dict or text.count(":") != len(value) or "\\u0000" in text:
        return False
    for member in value.values():
        kind = type(member)
        if kind is str or kind is bool or kind is float or member is None:
            continue
        if kind is not int or not -MAX_INTEGER <= member <= MAX_INTEGER:
            return False
    return True


def _control(kind: str, value: dict[str, Any]) -> Parsed | Refused:
    ref = read_id(value.get("id"))
    if isinstance(ref, FieldError):
        return _refuse(ref)
    if kind != "refresh_token":
        return kind, ref, value
    token = value.get("token")
    if type(token) is not str:
        return _refuse(FieldError("token", "Expected `str`" if "token" in value else "Required"), ref)
    return kind, ref, RefreshToken(token, ref)


def _invalid(what: str) -> Refused:
    return _refuse(FieldError("", what))


def _refuse(error: FieldError, ref: Ref = None) -> Refused:
    return Refused(Denial(reason=Reason.INVALID_MESSAGE, errors=(error,), detail=error.message), ref)
