"""One text frame in, one message out: size, UTF-8, JSON, envelope, schema, in that order and mostly in one decode."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from channels_secure.policy.decisions import Denial, FieldError, Reason
from channels_secure.policy.schemas import Envelope, Id, PayloadDecoder, PayloadError, Ref
from channels_secure.policy.wellformed import NOT_JSON, TOO_DEEP, find_flaw, is_suspicious

MAX_ERRORS = 5
# Greedy: what msgspec repeats of the client's input may look like a path, and the last one is its own.
_AT = re.compile(r"(?P<what>.*) - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")

Parsed = tuple[str, Ref, Any]


class Head(msgspec.Struct):
    """The envelope alone, for messages that did not decode."""

    type: Any = None
    id: Any = None


class Ping(msgspec.Struct, tag="ping", tag_field="type", forbid_unknown_fields=True):
    """Either side asks whether the other is there."""

    id: Id | None = None


class Pong(msgspec.Struct, tag="pong", tag_field="type", forbid_unknown_fields=True):
    """The answer to a ping."""

    id: Id | None = None


class RefreshToken(msgspec.Struct, tag="refresh_token", tag_field="type", forbid_unknown_fields=True):
    """The client has a newer access token."""

    token: str
    id: Id | None = None

    def __repr__(self) -> str:
        # What is shown is logged sooner or later, and a token is a credential.
        return "RefreshToken(…)"


Control = Ping | Pong | RefreshToken
CONTROL_TYPES = frozenset({"ping", "pong", "refresh_token"})


@dataclass(frozen=True, slots=True)
class Refused:
    """A frame that is no message: why, and the id to answer with where it could be read."""

    denial: Denial
    ref: Ref = None


def is_too_big(text: str, limit: int) -> bool:
    """Whether a text has more than `limit` bytes of UTF-8; encodes only when its length leaves it open."""
    length = len(text)
    if length > limit:
        return True
    return length * 4 > limit and not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > limit


class MessageDecoder:
    """Decodes the frames of one consumer class.

    Args:
        envelopes: the message types with a msgspec Struct, read in one decode.
        payloads: the other message types; their payload is decoded a second time.
        own_ids: those of the other types whose schema declares `id` itself.
        max_depth: how deeply objects and arrays may nest, the message itself included.
    """

    __slots__ = ("_by_struct", "_decode", "_envelopes", "_head", "_own_ids", "_payloads", "_whole", "max_depth")

    def __init__(
        self,
        envelopes: Iterable[Envelope],
        payloads: Mapping[str, PayloadDecoder],
        *,
        max_depth: int,
        own_ids: Iterable[str] = (),
    ) -> None:
        self._envelopes = {envelope.name: envelope for envelope in envelopes}
        self._by_struct: dict[type, Envelope | None] = {Ping: None, Pong: None, RefreshToken: None}
        self._by_struct |= {envelope.struct: envelope for envelope in self._envelopes.values()}
        union: Any = Control
        for envelope in self._envelopes.values():
            union |= envelope.struct
        self._decode = msgspec.json.Decoder(union).decode
        self._head = msgspec.json.Decoder(Head).decode
        self._whole = msgspec.json.Decoder(dict[str, Any]).decode
        self._payloads = payloads
        self._own_ids = {*own_ids, *(name for name, envelope in self._envelopes.items() if not envelope.derives_id)}
        self.max_depth = max_depth

    def decode(self, text: str) -> Parsed | Refused:
        """Return the type, the id and the payload of a message, or why it is none. Never raises on client input."""
        try:
            message = self._decode(text)
        except msgspec.ValidationError as error:
            return self._second_look(text, error)
        except RecursionError:
            return _invalid(TOO_DEEP)
        except (msgspec.DecodeError, UnicodeError):
            return _invalid(NOT_JSON)
        envelope = self._by_struct[type(message)]
        if envelope is None:
            return self._control(text, message)
        ref = getattr(message, envelope.reads_id)
        keys = envelope.keys
        if not envelope.derives_id:
            ref = _read_own_id(ref)
        elif ref is not None:
            keys += 1
        if (
            text.count(":") != keys
            or "\\u0000" in text
            or not (envelope.plain or not is_suspicious(text, self.max_depth))
        ):
            flaw = find_flaw(text, self.max_depth)
            if flaw is not None:
                return _invalid(flaw, ref=ref)
        try:
            return envelope.name, ref, envelope.build(message)
        except (ValueError, TypeError):
            return _invalid("Invalid value", ref=ref)

    def _control(self, text: str, message: Control) -> Parsed | Refused:
        ref = message.id
        flaw = find_flaw(text, self.max_depth)
        if flaw is not None:
            return _invalid(flaw, ref=ref)
        return str(type(message).__struct_config__.tag), ref, message

    def _second_look(self, text: str, error: msgspec.ValidationError) -> Parsed | Refused:
        """The frame is JSON, perhaps, but not a message with a Struct: find out what it is."""
        try:
            head = self._head(text)
        except msgspec.ValidationError:
            return _invalid("A message is a JSON object")
        except RecursionError:
            return _invalid(TOO_DEEP)
        except (msgspec.DecodeError, UnicodeError):
            return _invalid(NOT_JSON)
        name = head.type if isinstance(head.type, str) else ""
        ref = _read_own_id(head.id) if name in self._own_ids else read_id(head.id)
        flaw = find_flaw(text, self.max_depth)
        if flaw is not None:
            return _invalid(flaw, ref=None if isinstance(ref, FieldError) else ref)
        if isinstance(ref, FieldError):
            return _schema((ref,))
        if not self._knows(name):
            return Refused(Denial(reason=Reason.UNKNOWN_TYPE), ref)
        payload = self._payloads.get(name)
        if payload is None:
            return _schema((describe(error, text),), ref)
        return self._decode_payload(text, name, ref, payload)

    def _knows(self, name: str) -> bool:
        return name in self._envelopes or name in self._payloads or name in CONTROL_TYPES

    def _decode_payload(self, text: str, name: str, ref: Ref, decoder: PayloadDecoder) -> Parsed | Refused:
        members = self._whole(text)
        del members["type"]
        if name not in self._own_ids:
            members.pop("id", None)
        try:
            return name, ref, decoder.decode(msgspec.json.encode(members))
        except msgspec.ValidationError as error:
            return _schema((describe(error, text),), ref)
        except PayloadError as error:
            return _schema(error.errors[:MAX_ERRORS], ref)


def read_id(value: Any) -> Ref | FieldError:
    """The `id` of an envelope, None where there is none, or what is wrong with it; JSON's null is no id either."""
    if value is None:
        return None
    try:
        identifier: str | int = msgspec.convert(value, Id)
    except msgspec.ValidationError:
        return FieldError("id", "Expected a string of up to 64 characters or an integer")
    return identifier


def _read_own_id(value: Any) -> Ref:
    """The `id` that a schema declares itself may be anything; only what an envelope could hold comes back."""
    ref = read_id(value)
    return None if isinstance(ref, FieldError) else ref


def _invalid(what: str, *, ref: Ref = None) -> Refused:
    return _schema((FieldError("", what),), ref)


def _schema(errors: tuple[FieldError, ...], ref: Ref = None) -> Refused:
    return Refused(Denial(reason=Reason.INVALID_MESSAGE, errors=errors, detail=errors[0].message), ref)


def describe(error: msgspec.ValidationError, text: str) -> FieldError:
    """Turn msgspec's words about a text into a path of declared names and a message without client input.

    msgspec repeats unknown member names and invalid enum values, and the texts of exceptions that a schema's own code
    raised; those are replaced.
    """
    if error.__cause__ is not None:
        return FieldError("", "Invalid value")
    match = _AT.fullmatch(str(error))
    what, path = (match["what"], match["path"]) if match else (str(error), "")
    missing = _MISSING.fullmatch(what)
    if missing is not None:
        return FieldError(f"{path}.{missing['name']}".lstrip("."), "Required")
    if what.startswith("Object contains unknown field"):
        # Without a path of msgspec's own, a name with a backtick in it could pretend to be one.
        return FieldError("" if "`" in text or "\\u0060" in text else path, "Unknown field")
    return FieldError(path, what if what.startswith("Expected ") else "Invalid value")
