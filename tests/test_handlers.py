"""What a consumer class declares, and what a declaration that cannot work says."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from channels.db import database_sync_to_async
from django.contrib.auth.models import Permission, User
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from channels_secure.conf import get_settings
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.consumers.handlers import BadDeclaration, Plan, declarations, plan_of
from channels_secure.exceptions import Denied
from channels_secure.policy.messages import Refused
from channels_secure.policy.rates import Rate
from tests.sockets import ask, connect, kinds, logged, quiet, told  # noqa: F401


class Say(msgspec.Struct, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


@dataclass
class Data:
    a: int


class Typed(TypedDict):
    a: int


@attrs.define
class Attrs:
    a: int


class Colour(Enum):
    RED = "red"


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


def odd(value: str) -> str:
    if value == "custom":
        raise PydanticCustomError("odd", "What is {value}?", {"value": value})
    if value:
        raise ValueError(f"What is {value}?")
    return value


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    a: int
    colour: Colour = Colour.RED
    finish: Literal["matt", "gloss"] = "matt"
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")] | None = None
    either: int | bool | None = None
    named: dict[str, int] = {}
    when: pydantic.AwareDatetime | None = None
    note: Annotated[str, pydantic.AfterValidator(odd)] = ""
    site: pydantic.HttpUrl | None = None
    key: pydantic.UUID4 | None = None
    code: Annotated[str, pydantic.Field(pattern="^[a-z]*$", max_length=5)] = ""


class ModelWithId(pydantic.BaseModel):
    id: int


class ModelWithAlias(pydantic.BaseModel):
    ident: str = pydantic.Field(alias="id")


@pydantic.dataclasses.dataclass
class PydanticData:
    a: int


class StructWithId(msgspec.Struct):
    id: int


class Circle(msgspec.Struct, tag="circle", tag_field="kind"):
    radius: int


class Square(msgspec.Struct, tag="square", tag_field="kind"):
    side: int


class DataWithId(TypedDict):
    id: list[int]


def declare(schema: Any, **options: Any) -> type[SecureJsonConsumer]:
    """A consumer with one handler, `say`, that answers with what it got."""

    class Declared(SecureJsonConsumer):
        allow_anonymous = True

        async def say(self, message: Any) -> None:
            await self.send_json({"type": type(message).__name__, "got": repr(message)})

    Declared.say.__annotations__["message"] = schema
    Declared.say = handles("say", **options)(Declared.say)  # type: ignore[method-assign]
    return Declared


def plan(consumer: type[SecureJsonConsumer]) -> Plan:
    return plan_of(consumer, SecureJsonConsumer, get_settings())


# Declarations ---------------------------------------------------------------------------------------------------------


def test_a_declaration_becomes_a_handler() -> None:
    consumer = declare(Say, rate="5/10s", cost=3, permission="chat.add")
    handler = plan(consumer).handlers["say"]
    assert handler.rate == Rate(5, 10)
    assert handler.cost == 3
    assert handler.permission == "chat.add"
    assert handler.guarded
    assert "Declared" in handler.key
    assert handler.key.endswith(":say")


@pytest.mark.parametrize("options", [{"rate": "1/s"}, {"cost": 2}, {"permission": "a.b"}])
def test_a_handler_that_wants_something_asked_first_is_guarded(options: dict[str, Any]) -> None:
    assert plan(declare(Say, **options)).handlers["say"].guarded
    assert not plan(declare(Say)).handlers["say"].guarded


@pytest.mark.parametrize("kind", ["ping", "pong", "refresh_token"])
def test_the_packages_own_frames_cannot_be_declared(kind: str) -> None:
    class Own(SecureJsonConsumer):
        @handles(kind)
        async def mine(self, message: Say) -> None: ...

    with pytest.raises(BadDeclaration, match=f"Own.mine: '{kind}' is a control frame"):
        plan(Own)


def wrong_type(kind: Any) -> type[SecureJsonConsumer]:
    class Wrong(SecureJsonConsumer):
        @handles(kind)
        async def mine(self, message: Say) -> None: ...

    return Wrong


class NotAsync(SecureJsonConsumer):
    @handles("say")  # type: ignore[type-var]
    def mine(self, message: Say) -> None: ...


class NoParameter(SecureJsonConsumer):
    @handles("say")
    async def mine(self) -> None: ...


class TwoParameters(SecureJsonConsumer):
    @handles("say")
    async def mine(self, message: Say, more: int) -> None: ...


class NoAnnotation(SecureJsonConsumer):
    @handles("say")
    async def mine(self, message) -> None: ...  # type: ignore[no-untyped-def]


class UnreadableAnnotation(SecureJsonConsumer):
    @handles("say")
    async def mine(self, message: "NoSuchName") -> None: ...  # type: ignore[name-defined]  # noqa: F821


class Twice(SecureJsonConsumer):
    @handles("say")
    async def mine(self, message: Say) -> None: ...

    @handles("say")
    async def yours(self, message: Say) -> None: ...


class Array(msgspec.Struct, array_like=True):
    a: int


class TypedType(TypedDict):
    type: str


class ModelType(pydantic.BaseModel):
    type: str


class First(msgspec.Struct, tag=True):
    a: int


class Second(msgspec.Struct, tag=True):
    b: int


class Lost(msgspec.Struct):
    a: list["Nowhere"]  # type: ignore[name-defined]  # noqa: F821


class Broken(msgspec.Struct):
    a: "1 +"  # type: ignore[syntax]  # noqa: F722


class LostData(TypedDict):
    a: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


class LostModel(pydantic.BaseModel):
    a: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


class Opaque: ...


class OpaqueModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    a: Opaque


class Point(NamedTuple):
    x: int


class TooSmall(SecureJsonConsumer):
    max_message_size = 0


class NoRate(SecureJsonConsumer):
    message_rates = {"connection": "often"}


class NoSuchRate(SecureJsonConsumer):
    message_rates = {"conection": "5/s"}


@pytest.mark.parametrize(
    ("consumer", "complaint"),
    [
        (wrong_type(""), "a message type is a string of 1 to 100 characters"),
        (wrong_type("x" * 101), "a message type is a string of 1 to 100 characters"),
        (wrong_type("a\x00b"), "a message type is a string of 1 to 100 characters"),
        (wrong_type(5), "a message type is a string of 1 to 100 characters"),
        (NotAsync, "NotAsync.mine: a handler is declared with `async def`"),
        (NoParameter, "takes exactly one parameter besides self"),
        (TwoParameters, "takes exactly one parameter besides self"),
        (NoAnnotation, "annotate 'message'; the annotation is the message's schema"),
        (UnreadableAnnotation, "its annotation cannot be read"),
        (Twice, "'say' has two handlers"),
        (declare(Say, rate="often"), "'often' is not a rate"),
        (declare(Say, cost=0), "cost is a whole number of at least 1"),
        (declare(Say, cost=True), "cost is a whole number of at least 1"),
        (declare(Say, cost=1.5), "cost is a whole number of at least 1"),
        (declare(Array), "a message is a JSON object"),
        (declare(TypedType), "`type` belongs to the envelope"),
        (declare(ModelType), "`type` belongs to the envelope"),
        (declare(ModelType | None), "no message fits this type: a message is a JSON object"),
        (declare(pydantic.RootModel[ModelType]), "`type` belongs to the envelope"),
        (declare(TypedType | None), "`type` belongs to the envelope"),
        (
            declare(First | Second),
            "`type` belongs to the envelope: name the field otherwise, or give a union's Structs",
        ),
        (declare(Annotated[First | Second | None, "either"]), "`type` belongs to the envelope"),
        (declare(list[int]), "Declared.say: no message fits this type: a message is a JSON object"),
        (declare(str | int | None), "no message fits"),
        (declare(None), "no message fits"),
        (declare(Colour), "no message fits"),
        (declare(Literal["a"]), "no message fits"),
        (declare(Point), "no message fits"),
        (declare(Array | list[int]), "not supported"),
        (declare(Annotated[Array, "packed"]), "no message fits"),
        (declare(Opaque), "no message fits"),
        (declare(pydantic.RootModel[list[int]]), "no message fits"),
        (declare(Lost), "Declared.say: name 'Nowhere' is not defined"),
        (declare(Lost | None), "Declared.say: name 'Nowhere' is not defined"),
        (declare(LostData), "Declared.say: name 'Nowhere' is not defined"),
        (declare(LostModel), "Declared.say: "),
        (declare(OpaqueModel), "Declared.say: Cannot generate a JsonSchema"),
        (declare(Broken), "Declared.say: "),
        (declare(list[int] | tuple[int, ...]), "not supported"),
        (TooSmall, "TooSmall.max_message_size: must be a whole number of at least 1"),
        (NoRate, "NoRate.message_rates: 'often' is not a rate"),
        (NoSuchRate, "NoSuchRate.message_rates: unknown key 'conection'"),
    ],
)
def test_a_declaration_that_cannot_work_says_which_and_why(consumer: type[SecureJsonConsumer], complaint: str) -> None:
    with pytest.raises(BadDeclaration) as caught:
        plan(consumer)
    assert complaint in str(caught.value)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_class_that_cannot_work_refuses_every_connection(caplog: pytest.LogCaptureFixture) -> None:
    outcome = await connect(NotAsync, origin=None).shake_hands()
    assert (outcome.status, outcome.error["code"]) == (500, "internal_error")
    assert "NotAsync" not in json.dumps(dict(outcome.error))
    assert any("NotAsync.mine" in line for line in logged(caplog))


class Base(SecureJsonConsumer):
    @handles("say", rate="1/s")
    async def say(self, message: Say) -> None: ...

    @handles("leave")
    async def go(self, message: Say) -> None: ...

    async def news(self, event: Any) -> None: ...


class Override(Base):
    async def say(self, message: Say) -> None: ...

    @handles("go")
    async def go(self, message: Say) -> None: ...


class Removed(Base):
    go = None  # type: ignore[assignment]


def test_an_override_keeps_the_declaration_of_what_it_overrides() -> None:
    handlers = plan(Override).handlers
    assert handlers["say"].call is Override.say
    assert handlers["say"].rate == Rate(1, 1)
    # Declared anew, it has its new type and not the old one too.
    assert set(handlers) == {"say", "go"}
    assert {name for name, _ in declarations(Base)} == {"say", "go"}


def test_the_rate_of_a_handler_is_counted_per_class() -> None:
    assert plan(Base).handlers["say"].key != plan(Override).handlers["say"].key


def test_a_plan_is_made_once_per_class_and_settings(settings: Any) -> None:
    first = plan(Base)
    assert plan(Base) is first
    settings.CHANNELS_SECURE = {"MAX_MESSAGE_SIZE": 10}
    assert plan(Base) is not first
    assert plan(Base).limits.max_message_size == 10


class Events(Base):
    attribute = 5

    async def chat_message(self, event: Any) -> None: ...

    async def _private(self, event: Any) -> None: ...

    def synchronous(self, event: Any) -> None: ...

    @database_sync_to_async
    def in_a_thread(self, event: Any) -> None: ...

    async def receive_json(self, content: Any, **kwargs: Any) -> None: ...

    async def disconnect(self, code: int) -> None: ...

    async def websocket_receive(self, message: Any) -> None: ...


def test_layer_events_name_the_projects_own_coroutines_and_nothing_else() -> None:
    """Neither declared handlers, whose schema they would pass by, nor Channels' methods nor ours."""
    assert plan(Events).events == {"chat_message", "in_a_thread", "news"}


# Schemas on a socket --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "payload", "got"),
    [
        (Say, {"text": "hi"}, "Say(text='hi')"),
        (Data, {"a": 1}, "Data(a=1)"),
        (Typed, {"a": 1}, "{'a': 1}"),
        (Attrs, {"a": 1}, "Attrs(a=1)"),
        (PydanticData, {"a": 1}, "PydanticData(a=1)"),
        (Cat, {"kind": "cat"}, "Cat(kind='cat', lives=9)"),
        (Circle | Square, {"kind": "square", "side": 1}, "Square(side=1)"),
        (dict[str, int], {"x": 1, "y": 2}, "{'x': 1, 'y': 2}"),
    ],
)
@pytest.mark.parametrize("identifier", [None, "q1"])
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_schema_may_be_of_any_kind(schema: Any, payload: Any, got: str, identifier: str | None) -> None:
    envelope = {"type": "say"} if identifier is None else {"type": "say", "id": identifier}
    async with connect(declare(schema)) as socket:
        assert (await ask(socket, {**envelope, **payload}))["got"] == got
        refused = await ask(socket, {**envelope, "a": {}, "text": 5, "kind": 5, "x": "no"})
        assert (refused["code"], refused["fatal"], refused.get("ref")) == ("invalid_message", False, identifier)
        assert len(refused["errors"]) >= 1


@pytest.mark.parametrize(
    ("schema", "identifier"),
    [
        (ModelWithId, 7),
        (ModelWithAlias, "seven"),
        (pydantic.RootModel[ModelWithId], 7),
        (DataWithId, [1]),
        (DataWithId | None, [1]),
        (StructWithId | None, 7),
        (Annotated[StructWithId, "annotated"], 7),
        (dict[str, Any], "q"),
    ],
)
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_schema_that_declares_id_sees_it(schema: Any, identifier: Any) -> None:
    async with connect(declare(schema)) as socket:
        answer = await ask(socket, {"type": "say", "id": identifier})
        shown = repr(identifier) not in answer["got"] if schema == dict[str, Any] else repr(identifier) in answer["got"]
        assert shown, answer


# Permission -----------------------------------------------------------------------------------------------------------


async def only_short(consumer: SecureJsonConsumer, message: Say) -> bool:
    return len(message.text) < 5


async def always_in_doubt(consumer: SecureJsonConsumer, message: Say) -> bool:
    raise Denied("permission_denied", "Not on Sundays.")


async def broken(consumer: SecureJsonConsumer, message: Say) -> bool:
    raise RuntimeError("secret")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_permission_of_django_is_asked_for_each_message(user: User) -> None:
    consumer = declare(Say, permission="auth.add_user")
    consumer.allow_anonymous = False  # type: ignore[attr-defined]
    async with connect(consumer, user=user) as socket:
        refused = await ask(socket, {"type": "say", "text": "hi", "id": 3})
        assert (refused["code"], refused["fatal"], refused["ref"]) == ("permission_denied", False, 3)
    await user.user_permissions.aadd(await Permission.objects.aget(codename="add_user"))
    async with connect(consumer, user=user) as socket:
        assert (await ask(socket, {"type": "say", "text": "hi"}))["got"] == "Say(text='hi')"
    assert (await kinds()).count("message.denied permission_denied") == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_nobody_anonymous_has_a_permission_of_django() -> None:
    async with connect(declare(Say, permission="auth.add_user")) as socket:
        assert (await ask(socket, {"type": "say", "text": "hi"}))["code"] == "permission_denied"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_permission_may_be_a_question_about_the_message() -> None:
    async with connect(declare(Say, permission=only_short)) as socket:
        assert (await ask(socket, {"type": "say", "text": "hi"}))["got"] == "Say(text='hi')"
        assert (await ask(socket, {"type": "say", "text": "hello"}))["code"] == "permission_denied"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_question_may_refuse_in_its_own_words() -> None:
    async with connect(declare(Say, permission=always_in_doubt)) as socket:
        refused = await ask(socket, {"type": "say", "text": "hi", "id": "q"})
        assert (refused["code"], refused["message"], refused["ref"], refused["fatal"]) == (
            "permission_denied",
            "Not on Sundays.",
            "q",
            False,
        )


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_question_that_fails_lets_nobody_pass(caplog: pytest.LogCaptureFixture) -> None:
    socket = connect(declare(Say, permission=broken))
    assert (await socket.shake_hands()).accepted
    await socket.send_json_to({"type": "say", "text": "hi"})
    frame = await socket.receive_json_from()
    assert frame["code"] == "internal_error"
    assert "secret" not in json.dumps(frame)
    assert await socket.closing() == (4500, "internal_error")
    assert "application.failed" in logged(caplog)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_handler_may_run_in_a_thread() -> None:
    class Threaded(SecureJsonConsumer):
        allow_anonymous = True

        @handles("say")
        @database_sync_to_async
        def say(self, message: Say) -> None:
            asyncio.run_coroutine_threadsafe(self.send_json({"got": message.text}), self.connection.loop).result()

    async with connect(Threaded) as socket:
        assert await ask(socket, {"type": "say", "text": "hi"}) == {"got": "hi"}


# What the client wrote is not repeated --------------------------------------------------------------------------------

CANARY = "CANARY"
canaries = st.sampled_from(
    [CANARY, "custom" + CANARY, f"x` - at `$.{CANARY}", f"https://{CANARY}", f"2020-01-01T{CANARY}"]
)
DECLARED = (*Model.model_fields, "kind", "lives")
leaves: st.SearchStrategy[Any] = st.one_of(canaries, st.sampled_from(["red", "cat", "custom", 1, -1.5, True, None, ""]))
trees: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(DECLARED) | canaries, inner, max_size=3)
    ),
    max_leaves=6,
)


def decoder_of(schema: Any) -> Callable[[str], Any]:
    return plan(declare(schema)).decode


DECODERS = [decoder_of(schema) for schema in (Model, Cat, PydanticData, ModelWithId)]


@given(
    st.sampled_from(DECODERS),
    st.dictionaries(st.sampled_from(DECLARED), trees, max_size=4),
    st.dictionaries(canaries, trees, max_size=1),
)
@example(DECODERS[0], {"a": 1, "pet": {"kind": CANARY}}, {})
@example(DECODERS[0], {"a": 1, "note": CANARY}, {})
@example(DECODERS[0], {"a": 1, "note": "custom"}, {CANARY: CANARY})
@example(DECODERS[0], {"a": CANARY, "colour": CANARY, "finish": CANARY}, {})
@example(DECODERS[0], {"a": 1, "when": f"2020-01-01T{CANARY}", "site": f"{CANARY}://x", "key": CANARY}, {})
@example(DECODERS[0], {"a": 1, "named": {CANARY: CANARY}, "code": CANARY}, {CANARY: 1})
@example(DECODERS[2], {}, {CANARY: 1})
def test_nothing_that_a_client_wrote_comes_back_from_pydantic(
    decode: Callable[[str], Any], declared: dict[str, Any], unknown: dict[str, Any]
) -> None:
    answer = decode(json.dumps({"type": "say", **declared, **unknown}))
    if isinstance(answer, Refused):
        assert CANARY not in json.dumps(answer.denial.frame(ref=answer.ref, fatal=True))
        assert CANARY not in answer.denial.detail


def test_a_pydantic_model_tells_where_and_why() -> None:
    answer = decoder_of(Model)(json.dumps({"type": "say", "id": 1, "finish": "satin", "named": {"x": "y"}, "more": 1}))
    assert isinstance(answer, Refused)
    assert answer.ref == 1
    assert {(error.path, error.message) for error in answer.denial.errors} == {
        ("a", "Required"),
        ("finish", "Input should be 'matt' or 'gloss'"),
        ("named[...]", "Input should be a valid integer, unable to parse string as an integer"),
        ("", "Unknown field"),
    }


def test_at_most_five_errors_are_told() -> None:
    text = json.dumps({"type": "say", "a": [], "colour": [], "finish": [], "pet": 5, "named": 5, "note": 5, "code": 5})
    answer = decoder_of(Model)(text)
    assert isinstance(answer, Refused)
    assert len(answer.denial.errors) == 5
