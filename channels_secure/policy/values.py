"""Any well-formed JSON value, for consumers that declare no message types."""

from typing import Any

import msgspec

from channels_secure.policy.decisions import Denial, FieldError, Reason
from channels_secure.policy.messages import Parsed, Refused, read_id
from channels_secure.policy.wellformed import NOT_JSON, TOO_DEEP, find_flaw, is_suspicious

VALUE = "value"
_decode = msgspec.json.Decoder().decode


class ValueDecoder:
    """Decodes frames into Python's own types.

    Args:
        max_depth: how deeply objects and arrays may nest.
        controls: whether ``ping`` and ``pong`` objects are the package's own frames.
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
        # In an object of plain members every colon but those in strings stands for one key.
        keys = len(value) if type(value) is dict else 0
        if text.count(":") != keys or "\\u0000" in text or is_suspicious(text, self.max_depth):
            flaw = find_flaw(text, self.max_depth)
            if flaw is not None:
                return _invalid(flaw)
        if self._controls and type(value) is dict and value.get("type") in ("ping", "pong"):
            return _control(value)
        return VALUE, None, text if self._raw else value


def _control(value: dict[str, Any]) -> Parsed | Refused:
    ref = read_id(value.get("id"))
    if isinstance(ref, FieldError):
        return Refused(Denial(reason=Reason.INVALID_MESSAGE, errors=(ref,), detail=ref.message))
    return value["type"], ref, value


def _invalid(what: str) -> Refused:
    return Refused(Denial(reason=Reason.INVALID_MESSAGE, errors=(FieldError("", what),), detail=what))
