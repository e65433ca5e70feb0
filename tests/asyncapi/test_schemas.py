"""Payload schemas: what the decoder takes, the document allows, and what the document refuses, the decoder does."""

import json
from typing import Annotated, Any

import msgspec
import pytest
from django.db.models import TextChoices
from django.utils.safestring import SafeString
from jsonschema import Draft7Validator
from msgspec import Meta

from channels_secure.asyncapi import Undescribable, document
from channels_secure.asyncapi.schemas import older, sketch
from channels_secure.conf import get_settings
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.consumers.handlers import plan_of
from channels_secure.groups import encode
from channels_secure.policy.messages import Refused
from tests.asyncapi.conftest import errors, payload_validator
from tests.asyncapi.wire import EverythingConsumer

LEAST = {"type": "everything", "text": "abc", "number": 4}
POINT = [1, 2]

GOOD: list[dict[str, Any]] = [
    LEAST,
    {**LEAST, "id": "a1"},
    {**LEAST, "id": 5},
    {**LEAST, "id": None},
    {**LEAST, "an odd-name": 7, "$ref": "x", "fraction": 1.5, "flag": True, "raw": "AAA="},
    {**LEAST, "day": "2026-11-21", "moment": "2026-11-21T10:00:00Z", "clock": "10:00:00", "span": "P1D"},
    {**LEAST, "name": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "price": "1.20"},
    {**LEAST, "colour": "dark blue", "level": 2},
    {**LEAST, "choice": 3},
    {**LEAST, "choice": None},
    {**LEAST, "shape": {"kind": "circle", "centre": POINT, "radius": 1}},
    {**LEAST, "shape": {"kind": "square", "corner": [1], "side": 2.5}},
    {**LEAST, "shape": None},
    {**LEAST, "several": "x"},
    {**LEAST, "several": [1, 2]},
    {**LEAST, "pair": [2, "two"], "many": [1, 2, 3], "none_at_all": [], "point": [3]},
    {**LEAST, "packed": [1], "sealed": ["sealed", "x"]},
    {**LEAST, "packed": [1, "x", "more"]},
    {**LEAST, "letters": ["x", "y"], "counts": {"a": 1}, "by_number": {"1": "x"}},
    {**LEAST, "tree": {"name": "a", "children": [{"name": "b", "parent": {"name": "c"}}]}},
    {**LEAST, "page": {"items": [1, 2]}, "place": {"latitude": 1.5}, "options": {"loud": True, "colour": "red"}},
    {**LEAST, "anything": [{"a": None}], "boxes": ["abc", "d"]},
    {"type": "place", "latitude": 89.5, "tags": ["x"]},
    {"type": "place", "id": 1, "latitude": 1, "more": "is ignored"},
    {"type": "options", "loud": False},
    {"type": "note", "title": "x", "stars": 3, "about": {"title": "y"}},
    {"type": "counts", "a": 1},
    {"type": "counts", "id": "1", "a": 1, "b": 2},
    {"type": "shape", "kind": "circle", "centre": POINT, "radius": 0.5},
    {"type": "tree", "name": "a", "children": [{"name": "b"}]},
    {"type": "anything", "a": {"b": []}},
    {"type": "anything"},
]
BAD: list[dict[str, Any]] = [
    {"type": "everything"},
    {"type": "everything", "text": "abc"},
    {**LEAST, "text": ""},
    {**LEAST, "text": "abcdef"},
    {**LEAST, "text": "ABC"},
    {**LEAST, "number": 3},
    {**LEAST, "number": 12},
    {**LEAST, "number": "4"},
    {**LEAST, "odd": 7},
    {**LEAST, "id": True},
    {**LEAST, "id": "x" * 65},
    {**LEAST, "id": 2**53},
    {**LEAST, "colour": "blue"},
    {**LEAST, "level": 3},
    {**LEAST, "choice": "c"},
    {**LEAST, "shape": {"kind": "circle", "corner": POINT, "side": 1}},
    {**LEAST, "shape": {"kind": "triangle"}},
    {**LEAST, "shape": {"kind": "circle", "centre": POINT, "radius": 0}},
    {**LEAST, "several": {}},
    {**LEAST, "pair": [1]},
    {**LEAST, "pair": ["two", 2]},
    {**LEAST, "pair": [1, "one", "more"]},
    {**LEAST, "none_at_all": [1]},
    {**LEAST, "point": []},
    {**LEAST, "point": [1, 2, 3]},
    {**LEAST, "packed": []},
    {**LEAST, "packed": [1, 2]},
    {**LEAST, "sealed": ["x"]},
    {**LEAST, "sealed": ["sealed", "x", "more"]},
    {**LEAST, "counts": {"a": -1}},
    {**LEAST, "tree": {"name": "a", "children": [{"nome": "b"}]}},
    {**LEAST, "page": {"items": ["a"]}},
    {**LEAST, "options": {}},
    {**LEAST, "boxes": []},
    {**LEAST, "boxes": ["a", "b", "c"]},
    {**LEAST, "boxes": ["long"]},
    {"type": "place", "latitude": 91},
    {"type": "note", "title": ""},
    {"type": "note", "title": "x", "stars": 4},
    {"type": "note", "title": "x", "more": 1},
    {"type": "note", "title": "x", "about": {}},
    {"type": "counts"},
    {"type": "counts", "a": "one"},
    {"type": "counts", "a": 1, "b": 2, "c": 3, "d": 4},
    {"type": "shape", "kind": "circle"},
    {"type": "tree", "name": "a", "children": [{}]},
]


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document([EverythingConsumer])


def takes(message: dict[str, Any]) -> bool:
    plan = plan_of(EverythingConsumer, SecureJsonConsumer, get_settings())
    return not isinstance(plan.decode(json.dumps(message)), Refused)


def allows(described: dict[str, Any], message: dict[str, Any]) -> bool:
    return bool(payload_validator(described, message["type"]).is_valid(message))


@pytest.mark.parametrize("message", GOOD, ids=json.dumps)
def test_what_is_decoded_is_allowed(described: dict[str, Any], message: dict[str, Any]) -> None:
    assert takes(message)
    assert allows(described, message)


@pytest.mark.parametrize("message", BAD, ids=json.dumps)
def test_what_is_not_allowed_is_not_decoded(described: dict[str, Any], message: dict[str, Any]) -> None:
    assert not takes(message)
    assert not allows(described, message)


def test_the_whole_of_it_is_a_valid_document(described: dict[str, Any], official: Draft7Validator) -> None:
    assert errors(official, described) == []


def test_only_what_is_referred_to_is_kept(described: dict[str, Any]) -> None:
    kept = set(described["components"]["schemas"])
    assert {"Tree", "Circle", "Point", "Colour", "Page_int", "Note", "Reason"} <= kept
    assert "Everything" not in kept
    assert "Said" not in kept


def test_a_tuple_is_one_for_readers_of_draft_7() -> None:
    schema = older({"type": "array", "prefixItems": [{"type": "integer"}], "items": False, "minItems": 1})
    assert schema == {"type": "array", "items": [{"type": "integer"}], "additionalItems": False, "minItems": 1}
    assert not Draft7Validator(schema).is_valid([1, 2])


def test_what_stands_beside_a_reference_is_not_lost() -> None:
    schema = older({"$ref": "Tree", "default": None, "description": "of wood"})
    assert schema == {"allOf": [{"$ref": "Tree"}], "default": None, "description": "of wood"}


def test_what_only_looks_like_a_schema_is_left_alone() -> None:
    schema = {"properties": {"$ref": {"type": "string"}}, "default": {"prefixItems": [], "discriminator": 1}}
    assert older(schema) == schema


def test_a_type_that_msgspec_leaves_to_hooks_is_described_by_its_name() -> None:
    class Odd:
        pass

    class Holder(msgspec.Struct):
        odd: Odd

    holder: Any = sketch(Holder, "here").parts["Holder"]
    assert holder["properties"]["odd"] == {"title": "Odd"}


class Role(TextChoices):
    OWNER = "owner", "Owner"
    GUEST = "guest", "Guest"


class Odd:
    def __str__(self) -> str:
        return "odd"


class Metres(float):
    pass


class Count(int):
    pass


def test_what_is_sent_is_described_as_it_is_encoded() -> None:
    class Holder(msgspec.Struct, tag="holder", tag_field="type"):
        role: Role
        safe: SafeString
        odd: Odd
        metres: Metres
        count: Count

    class Sending(SecureJsonConsumer):
        sends = (Holder,)

    validator = payload_validator(document(Sending), "holder")
    held = Holder(role=Role.GUEST, safe=SafeString("x"), odd=Odd(), metres=Metres(1.5), count=Count(2))
    frame = json.loads(encode(held))
    assert frame == {"type": "holder", "role": "guest", "safe": "x", "odd": "odd", "metres": 1.5, "count": 2}
    assert validator.is_valid(frame)
    for name in ("role", "safe", "odd", "metres", "count"):
        assert not validator.is_valid({**frame, name: ["another"]}), name
    assert not validator.is_valid({**frame, "role": "nobody"})


def test_two_types_that_cannot_be_told_apart_are_said_by_name() -> None:
    twins = [msgspec.defstruct("Twin", [(name, int)], module="twins") for name in "ab"]
    holder = msgspec.defstruct("Holder", [("one", twins[0]), ("other", twins[1])])
    with pytest.raises(Undescribable, match=r"^here: two types are both called twins\.Twin: rename one$"):
        sketch(holder, "here")


def test_a_struct_with_a_tag_of_its_own_is_taken_by_its_handlers_type() -> None:
    class Tagged(msgspec.Struct, tag="other", tag_field="kind", forbid_unknown_fields=True):
        text: str

    class Taking(SecureJsonConsumer):
        @handles("tagged")
        async def take(self, message: Tagged) -> None: ...

    decode = plan_of(Taking, SecureJsonConsumer, get_settings()).decode
    validator = payload_validator(document([Taking]), "tagged")
    good, bad = {"type": "tagged", "text": "x"}, {"type": "tagged", "kind": "other", "text": "x"}
    assert validator.is_valid(good)
    assert not isinstance(decode(json.dumps(good)), Refused)
    assert not validator.is_valid(bad)
    assert isinstance(decode(json.dumps(bad)), Refused)


def test_what_is_asked_of_members_names_is_not_asked_of_the_envelopes() -> None:
    class Taking(SecureJsonConsumer):
        @handles("names")
        async def take(self, message: dict[Annotated[str, Meta(min_length=5)], int]) -> None: ...

    decode = plan_of(Taking, SecureJsonConsumer, get_settings()).decode
    validator = payload_validator(document(Taking), "names")
    good, bad = {"type": "names", "id": 1, "longer": 1}, {"type": "names", "short": 1, "tiny": 1}
    assert validator.is_valid(good)
    assert not isinstance(decode(json.dumps(good)), Refused)
    assert not validator.is_valid(bad)
    assert isinstance(decode(json.dumps(bad)), Refused)


def test_a_schema_that_declares_an_id_says_what_it_is() -> None:
    class WithId(msgspec.Struct):
        id: list[int]

    class Taking(SecureJsonConsumer):
        @handles("with")
        async def take(self, message: WithId) -> None: ...

    validator = payload_validator(document([Taking]), "with")
    assert validator.is_valid({"type": "with", "id": [1]})
    assert not validator.is_valid({"type": "with", "id": "x"})


class Sailed(msgspec.Struct):
    """What is described on several lines.

    Args:
        knots: how fast.
    """

    knots: int


class Voyage(msgspec.Struct):
    sailed: Sailed


def test_a_description_is_the_same_on_every_python() -> None:
    """Python 3.13 takes the indentation of the code out of a docstring."""
    part = sketch(Voyage, "here").parts["Sailed"]
    assert isinstance(part, dict)
    assert part["description"] == "What is described on several lines.\n\nArgs:\n    knots: how fast."
