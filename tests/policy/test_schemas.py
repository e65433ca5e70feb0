"""The envelope added to a schema: what the decoder derives, and what it hands back."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import attrs
import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType, field

from channels_secure.policy.messages import MessageDecoder, Refused
from channels_secure.policy.payloads import payload_members
from channels_secure.policy.schemas import envelop


class Say(Struct, forbid_unknown_fields=True):
    text: Annotated[str, Meta(min_length=1)]


class Empty(Struct, forbid_unknown_fields=True):
    pass


class Frozen(Struct, frozen=True, order=True):
    b: int
    a: int = 3


class KeywordOnly(Struct, kw_only=True):
    a: int = 0
    b: str


class Mixed(Struct):
    a: int
    b: str = field(default="", name="bee")


class Camel(Struct, rename="camel"):
    first_name: str
    last_name: str = "-"


class Child(Say):
    colour: Literal["red", "blue"] = "red"


class OwnId(Struct):
    id: list[int]


class OptionalOwnId(Struct):
    text: str
    id: int | None = None


class UnsetOwnId(Struct):
    id: int | UnsetType = UNSET


class Tagged(Struct, tag="old", tag_field="kind"):
    text: str


class Lists(Struct):
    items: list[str] = []


class Counting(Struct):
    """Counts how often its own code ran."""

    text: str
    runs: int = 0

    def __post_init__(self) -> None:
        self.runs += 1
        if self.text == "no":
            raise ValueError(f"not {self.text}")


def read(schema: type[Struct], text: str, name: str = "say") -> Any:
    answer = MessageDecoder([envelop(name, schema)], {}, max_depth=8).decode(text)
    assert not isinstance(answer, Refused), answer
    assert answer[0] == name
    return answer[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"say","text":"hi"}', Say("hi")),
        ('{"text":"hi","id":5,"type":"say"}', Say("hi")),
        ('{"type":"say"}', Empty()),
        ('{"type":"say","b":1}', Frozen(1)),
        ('{"type":"say","b":1,"a":2}', Frozen(1, 2)),
        ('{"type":"say","b":"x"}', KeywordOnly(b="x")),
        ('{"type":"say","bee":"x","a":1}', Mixed(1, "x")),
        ('{"type":"say","firstName":"Ada","id":"i"}', Camel("Ada")),
        ('{"type":"say","text":"hi","colour":"blue"}', Child("hi", "blue")),
        ('{"type":"say","text":"hi"}', Tagged("hi")),
        ('{"type":"say"}', Lists()),
        ('{"type":"say","id":[1,2]}', OwnId([1, 2])),
        ('{"type":"say","text":"hi"}', OptionalOwnId("hi")),
        ('{"type":"say","text":"hi","id":7}', OptionalOwnId("hi", 7)),
        ('{"type":"say","text":"hi","id":null}', OptionalOwnId("hi")),
        ('{"type":"say"}', UnsetOwnId()),
        ('{"type":"say","id":7}', UnsetOwnId(7)),
    ],
)
def test_a_handler_gets_a_true_instance_of_its_own_schema(text: str, message: Struct) -> None:
    found = read(type(message), text)
    assert type(found) is type(message)
    assert found == message


def test_a_schemas_own_code_runs_once() -> None:
    assert read(Counting, '{"type":"say","text":"yes"}').runs == 1


def test_what_a_schemas_own_code_refuses_is_refused_without_its_words() -> None:
    answer = MessageDecoder([envelop("say", Counting)], {}, max_depth=8).decode('{"type":"say","text":"no","id":4}')
    assert isinstance(answer, Refused)
    assert answer.ref == 4
    assert [(error.path, error.message) for error in answer.denial.errors] == [("", "Invalid value")]


def test_mutable_defaults_are_not_shared_between_messages() -> None:
    decoder = MessageDecoder([envelop("say", Lists)], {}, max_depth=8)
    first, second = (decoder.decode('{"type":"say"}') for _ in range(2))
    assert not isinstance(first, Refused)
    assert not isinstance(second, Refused)
    first[2].items.append("mine")
    assert second[2].items == []


def test_one_schema_may_serve_several_types() -> None:
    decoder = MessageDecoder([envelop("one", Say), envelop("two", Say)], {}, max_depth=8)
    for name in ("one", "two"):
        assert decoder.decode(f'{{"type":"{name}","text":"hi"}}') == (name, None, Say("hi"))


def test_the_users_schema_does_not_see_the_envelope() -> None:
    envelop("say", Say)
    assert Say.__struct_fields__ == ("text",)
    assert msgspec.json.encode(Say("hi")) == b'{"text":"hi"}'


class TypeField(Struct):
    type: str


class TypeByName(Struct):
    kind: str = field(name="type")


class TypeAttribute(Struct):
    type: str = field(name="kind")


class Array(Struct, array_like=True):
    a: int


@pytest.mark.parametrize("schema", [TypeField, TypeByName])
def test_the_name_type_belongs_to_the_envelope(schema: type[Struct]) -> None:
    with pytest.raises(TypeError, match="`type` belongs to the envelope"):
        envelop("say", schema)


def test_an_attribute_named_type_is_fine_where_the_wire_has_another_name() -> None:
    assert read(TypeAttribute, '{"type":"say","kind":"x"}') == TypeAttribute("x")


def test_a_message_is_an_object() -> None:
    with pytest.raises(TypeError, match="array_like"):
        envelop("say", Array)


class Inner(Struct):
    a: int
    b: int = 0


class Outer(Struct):
    inner: Inner
    rest: list[Inner] = []
    maybe: Inner | None = None


Small = Annotated[int, Meta(ge=0, le=9)]


class Bounded(Struct):
    small: Small
    either: Small | str | None


class Half(Struct):
    half: Annotated[int, Meta(ge=0)]


class Wide(Struct):
    wide: Annotated[int, Meta(gt=-(2**60), lt=2**60)]


class Floating(Struct):
    x: float


class Loose(Struct):
    loose: Any


class OptionalLoose(Struct):
    loose: Any = None


@pytest.mark.parametrize(
    ("schema", "keys", "plain"),
    [
        (Empty, 1, True),
        (Say, 2, True),
        (Child, 2, True),
        (Camel, 2, True),
        (OwnId, 2, False),
        (OptionalOwnId, 2, True),
        (Outer, 3, False),
        (Bounded, 3, True),
        (Half, 2, False),
        (Wide, 2, False),
        (Floating, 2, False),
        (Loose, 2, False),
        (OptionalLoose, 1, True),
    ],
)
def test_the_shortest_message_and_what_it_can_hide(schema: type[Struct], keys: int, plain: bool) -> None:
    """Members that may be missing do not count: with one of them there are more colons, and a closer look follows."""
    envelope = envelop("say", schema)
    assert (envelope.keys, envelope.plain) == (keys, plain)


@dataclass
class Data:
    a: int
    id: int = 0


class Typed(TypedDict):
    b: int


class TypedType(TypedDict):
    type: str


@attrs.define
class Attrs:
    c: int


class ByKind(Struct, tag="one", tag_field="kind"):
    id: str


class OtherKind(Struct, tag="other", tag_field="kind"):
    b: int


class Packed(Struct, array_like=True):
    a: int


@pytest.mark.parametrize(
    ("schema", "members"),
    [
        (Say, {"text"}),
        (Camel, {"firstName", "lastName"}),
        (Data, {"a", "id"}),
        (Typed, {"b"}),
        (Attrs, {"c"}),
        (Typed | None, {"b"}),
        (Annotated[OwnId, Meta(title="annotated")], {"id"}),
        (ByKind | OtherKind, {"kind", "id", "b"}),
        (ByKind | None, {"id"}),
        (Typed | list[int], {"b"}),
        (dict[str, int], set()),
        (Any, set()),
        (object, set()),
        (msgspec.Raw, set()),
    ],
)
def test_the_payload_members_a_schema_are_known_by_their_names_on_the_wire(schema: Any, members: set[str]) -> None:
    assert payload_members(schema) == members


class ByType(Struct, tag="one", tag_field="type"):
    a: int


class OtherType(Struct, tag="other", tag_field="type"):
    b: int


@pytest.mark.parametrize("schema", [TypedType, TypedType | None, ByType | OtherType])
def test_no_other_kind_of_schema_may_declare_a_type_either(schema: Any) -> None:
    with pytest.raises(TypeError, match="`type` belongs to the envelope"):
        payload_members(schema)


def test_the_tag_of_one_struct_alone_is_the_envelopes() -> None:
    assert payload_members(ByType | None) == {"a"}


@pytest.mark.parametrize("schema", [list[int], int | None, Packed | str, type(None), Annotated[str, "x"]])
def test_a_type_that_is_no_object_is_no_schema(schema: Any) -> None:
    with pytest.raises(TypeError, match=r"^no message fits this type: a message is a JSON object$"):
        payload_members(schema)


def test_a_type_that_cannot_be_decoded_is_said_to_be_so() -> None:
    with pytest.raises(TypeError, match="not supported"):
        payload_members(list[int] | tuple[int, ...])
