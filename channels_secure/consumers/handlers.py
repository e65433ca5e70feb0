"""What a consumer class declares, prepared once per class into a plan that a message only looks up."""

import inspect
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from asgiref.sync import iscoroutinefunction

from channels_secure.codecs import Codec
from channels_secure.conf import Settings
from channels_secure.consumers.annotations import payload_decoder, schema_of
from channels_secure.consumers.misdeclared import BadDeclaration as BadDeclaration
from channels_secure.consumers.misdeclared import codec_of
from channels_secure.limits import Limits, limits_of
from channels_secure.policy.messages import CONTROL_TYPES, MessageDecoder, Parsed, Refused
from channels_secure.policy.payloads import payload_members
from channels_secure.policy.rates import Rate
from channels_secure.policy.schemas import Envelope, PayloadDecoder, envelop
from channels_secure.policy.values import VALUE, ValueDecoder

Permission = str | Callable[[Any, Any], Awaitable[bool]]
Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])

MARK = "_channels_secure_declaration"
MAX_TYPE_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What `@handles` says about a method, as the project wrote it."""

    type: str
    rate: str | None
    cost: int
    permission: Permission | None


def handles(
    type: str,  # noqa: A002 - the envelope's own word
    *,
    rate: str | None = None,
    cost: int = 1,
    permission: Permission | None = None,
) -> Callable[[Method], Method]:
    """Declare the handler of a message type; the annotation of its one parameter is the message's schema.

    Args:
        type: the envelope's `type` that it handles.
        rate: how often one user (or address, if anonymous) may send it, for example ``"5/10s"``.
        cost: how many units of the connection's and the user's message rates one message takes.
        permission: a Django permission (``"chat.add_message"``), or ``async (consumer, message) -> bool``.

    A declaration that cannot work is reported by the system check `channels_secure.E009`, and its consumer refuses
    every connection.
    """

    def declare(method: Method) -> Method:
        setattr(method, MARK, Declaration(type=type, rate=rate, cost=cost, permission=permission))
        return method

    return declare


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A declared message type, ready to be called. `guarded` says that something must be asked before."""

    type: str
    call: Callable[[Any, Any], Awaitable[Any]]
    key: str
    rate: Rate | None
    cost: int
    permission: Permission | None
    guarded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A consumer class under the settings in force.

    `encodes` says that the class leaves the encoding of what it sends to us.
    `events` are the methods that a channel-layer event may name; `typed` tells classes with declared handlers from
    those that take every JSON value. `decode` reads a frame and `parse` the JSON in it, which are the same where
    `codec` is None: frames are that JSON then.
    """

    limits: Limits
    handlers: Mapping[str, Handler]
    decode: Callable[[str], Parsed | Refused]
    parse: Callable[[str], Parsed | Refused]
    codec: Codec | None
    encodes: bool
    events: frozenset[str]
    typed: bool


@lru_cache(maxsize=512)
def plan_of(consumer: Any, base: Any, settings: Settings) -> Plan:
    """Prepare a consumer class; `base` is the package's own consumer, whose methods no event may name.

    Raises:
        BadDeclaration: what the class declares cannot work.
    """
    try:
        limits = limits_of(settings, consumer)
    except ValueError as error:
        raise BadDeclaration(f"{consumer.__qualname__}.{error}") from None
    events = frozenset(_event_names(consumer, base))
    encodes = _function(consumer.encode_json) is _function(base.encode_json)
    handlers = _declared_handlers(consumer)
    least = min((rate.amount for rate in limits.rates.values()), default=math.inf)
    if any(handler.cost > least for handler in handlers.values()):
        raise BadDeclaration(
            f"{consumer.__qualname__}: a cost above a message rate's amount, {least}, is never admitted"
        )
    decode: Callable[[str], Parsed | Refused]
    if handlers:
        decode = _message_decoder(consumer, limits.max_message_depth).decode
    else:
        handlers, decode = _values(consumer, base, limits)
    return Plan(
        limits=limits,
        handlers=handlers,
        decode=decode,
        parse=decode,
        codec=codec_of(consumer),
        encodes=encodes,
        events=events,
        typed=VALUE not in handlers,
    )


def _declared_handlers(consumer: type) -> dict[str, Handler]:
    handlers: dict[str, Handler] = {}
    for name, declaration in declarations(consumer):
        handler = _handler(consumer, name, declaration)
        if handler.type in handlers:
            raise BadDeclaration(f"{consumer.__qualname__}.{name}: {handler.type!r} has two handlers")
        handlers[handler.type] = handler
    return handlers


def _message_decoder(consumer: type, max_depth: int) -> MessageDecoder:
    envelopes: list[Envelope] = []
    payloads: dict[str, PayloadDecoder] = {}
    own_ids: list[str] = []
    for name, declaration in declarations(consumer):
        schema = schema_of(consumer, name)
        try:
            if isinstance(schema, type) and issubclass(schema, msgspec.Struct):
                envelopes.append(envelop(declaration.type, schema))
                continue
            payloads[declaration.type] = payload_decoder(schema)
            if "id" in payload_members(schema):
                own_ids.append(declaration.type)
        except Exception as error:  # noqa: BLE001 - the annotations in a schema may be any expressions
            raise BadDeclaration(f"{consumer.__qualname__}.{name}: {error}") from None
    return MessageDecoder(envelopes, payloads, max_depth=max_depth, own_ids=own_ids)


def _values(consumer: Any, base: Any, limits: Limits) -> tuple[dict[str, Handler], Callable[[str], Parsed | Refused]]:
    """A class without handlers: `receive_json` gets every value, or its own `receive` and `decode_json` the text."""
    raw = consumer.receive is not base.receive or _function(consumer.decode_json) is not _function(base.decode_json)
    controls = bool(consumer.control_frames) or limits.deadlines.heartbeat is not None
    call = _function_of(consumer, "receive" if raw else "receive_json")
    handler = Handler(type=VALUE, call=call, key="", rate=None, cost=1, permission=None, guarded=False)
    decoder = ValueDecoder(max_depth=limits.max_message_depth, controls=controls, raw=raw)
    return {VALUE: handler}, decoder.decode


def _function(method: Any) -> Any:
    return getattr(method, "__func__", method)


def declarations(consumer: type) -> Iterator[tuple[str, Declaration]]:
    """The declared methods of a class; an override keeps the declaration of the method it overrides."""
    for name in dir(consumer):
        for owner in consumer.__mro__:
            declaration = getattr(vars(owner).get(name), MARK, None)
            if declaration is not None:
                yield name, declaration
                break


def _handler(consumer: type, name: str, declaration: Declaration) -> Handler:
    where = f"{consumer.__qualname__}.{name}"
    if not iscoroutinefunction(getattr(consumer, name)):
        raise BadDeclaration(f"{where}: a handler is declared with `async def`")
    kind = declaration.type
    if not isinstance(kind, str) or not 0 < len(kind) <= MAX_TYPE_LENGTH or "\x00" in kind:
        raise BadDeclaration(f"{where}: a message type is a string of 1 to {MAX_TYPE_LENGTH} characters")
    if kind in CONTROL_TYPES:
        raise BadDeclaration(f"{where}: {kind!r} is a control frame of the package")
    if isinstance(declaration.cost, bool) or not isinstance(declaration.cost, int) or declaration.cost < 1:
        raise BadDeclaration(f"{where}: cost is a whole number of at least 1")
    try:
        rate = None if declaration.rate is None else Rate.parse(declaration.rate)
    except ValueError as error:
        raise BadDeclaration(f"{where}: {error}") from None
    return Handler(
        type=kind,
        call=_function_of(consumer, name),
        key=f"handler:{consumer.__module__}.{consumer.__qualname__}:{kind}",
        rate=rate,
        cost=declaration.cost,
        permission=declaration.permission,
        guarded=rate is not None or declaration.cost > 1 or declaration.permission is not None,
    )


def _function_of(consumer: Any, name: str) -> Callable[[Any, Any], Awaitable[Any]]:
    """A method as a function of its instance; what `database_sync_to_async` makes binds only to an instance."""
    method = getattr(consumer, name)
    return method if inspect.isfunction(method) else lambda instance, message: getattr(instance, name)(message)


def _event_names(consumer: type, base: type) -> Iterator[str]:
    """The methods that a channel-layer event may name: the project's own coroutines, never Channels' or ours."""
    # An event would pass a declared handler's schema by. Asked for by name: what `database_sync_to_async` makes loses
    # the mark when it is bound.
    reserved = {*dir(base), *(name for name, _ in declarations(consumer))}
    for name in dir(consumer):
        if name.startswith("_") or name in reserved:
            continue
        method = getattr(consumer, name)
        if iscoroutinefunction(method):
            yield name
