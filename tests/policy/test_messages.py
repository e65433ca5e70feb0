"""From a text to a message: what passes, what does not, and what is said about it."""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from channels_secure.policy.decisions import Reason
from channels_secure.policy.messages import MessageDecoder, Ping, Pong, RefreshToken, Refused, is_too_big
from channels_secure.policy.schemas import envelop
from tests.policy.documents import (
    LARGEST,
    joined,
    nested,
    numbers,
    objects_of,
    oracle,
    scalars,
    spaces,
    spelled,
    strings,
    values,
)
from tests.policy.timing import best_seconds

MAX_DEPTH = 8


class Say(Struct, forbid_unknown_fields=True):
    text: Annotated[str, Meta(min_length=1, max_length=500)]


class Point(Struct):
    x: float
    y: int = 0


class Inner(Struct, forbid_unknown_fields=True):
    a: int
    deeper: "Inner | None" = None


class Outer(Struct, forbid_unknown_fields=True):
    inner: Inner
    several: list[Inner] = []
    named: dict[str, int] = {}


class Own(Struct):
    text: str
    id: Any = None


class OwnRequired(Struct):
    id: str
    text: str = ""


class Anything(Struct):
    data: Any


class Unread(Struct):
    data: msgspec.Raw


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Circle(Struct, tag="circle"):
    r: int


class Square(Struct, tag="square"):
    a: int


class Painted(Struct, forbid_unknown_fields=True):
    colour: Colour
    finish: Literal["matt", "gloss"] = "matt"
    code: Annotated[str, Meta(pattern="^[a-z]*$")] = ""
    by: dict[Literal["brush", "roller"], int] = {}
    shape: Circle | Square | None = None
    inner: Inner | None = None

    def __post_init__(self) -> None:
        if self.code == "post":
            raise ValueError(f"Expected another colour than {self.colour}")


@dataclass
class Data:
    a: int
    colour: Colour = Colour.RED
    note: str = ""

    def __post_init__(self) -> None:
        if self.note:
            raise ValueError(f"Expected no note - at `$.{self.note}`")


@dataclass
class DataWithId:
    id: int
    a: int = 0


class Typed(TypedDict):
    a: int
    finish: NotRequired[Literal["matt", "gloss"]]


@attrs.define
class Attrs:
    a: int
    colour: Colour = Colour.RED
    inner: Inner | None = None


STRUCTS: dict[str, type[Struct]] = {
    "say": Say,
    "point": Point,
    "outer": Outer,
    "own": Own,
    "own-required": OwnRequired,
    "anything": Anything,
    "unread": Unread,
    "painted": Painted,
}
OTHERS: dict[str, Any] = {"data": Data, "data-id": DataWithId, "typed": Typed, "attrs": Attrs, "object": dict[str, Any]}
SCHEMAS = {**STRUCTS, **OTHERS}

decoder = MessageDecoder(
    [envelop(name, struct) for name, struct in STRUCTS.items()],
    {name: msgspec.json.Decoder(schema) for name, schema in OTHERS.items()},
    max_depth=MAX_DEPTH,
    own_ids=["data-id"],
)


def refusal(text: str) -> tuple[str, list[tuple[str, str]], Any]:
    answer = decoder.decode(text)
    assert isinstance(answer, Refused), answer
    denial = answer.denial
    return denial.reason.value, [(error.path, error.message) for error in denial.errors], answer.ref


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ('{"type":"say","text":"hi"}', ("say", None, Say("hi"))),
        (' {"id" : "q1",\n"text":"a:b{c}[d]\\u0061", "type" :"say"} ', ("say", "q1", Say("a:b{c}[d]a"))),
        ('{"type":"say","text":"hi","id":0}', ("say", 0, Say("hi"))),
        ('{"type":"say","text":"hi","id":""}', ("say", "", Say("hi"))),
        ('{"type":"say","text":"hi","id":-9007199254740991}', ("say", -LARGEST, Say("hi"))),
        ('{"typ\\u0065":"s\\u0061y","text":"\\\\u0000"}', ("say", None, Say("\\u0000"))),
        ('{"type":"point","x":1}', ("point", None, Point(1.0))),
        ('{"type":"point","x":-1.5e-7,"y":3,"more":[{"a":1}]}', ("point", None, Point(-1.5e-7, 3))),
        ('{"type":"own","id":{"a":1},"text":"x"}', ("own", None, Own("x", {"a": 1}))),
        ('{"type":"own","id":7,"text":"x"}', ("own", 7, Own("x", 7))),
        ('{"type":"own","text":"x"}', ("own", None, Own("x"))),
        ('{"type":"own-required","id":"q"}', ("own-required", "q", OwnRequired("q"))),
        ('{"type":"anything","data":[[1]]}', ("anything", None, Anything([[1]]))),
        ('{"type":"data","a":1,"id":"q"}', ("data", "q", Data(1))),
        ('{"type":"data-id","a":1,"id":7}', ("data-id", 7, DataWithId(7, 1))),
        ('{"type":"typed","a":1,"id":7,"more":1}', ("typed", 7, {"a": 1})),
        ('{"type":"attrs","a":1}', ("attrs", None, Attrs(1))),
        ('{"type":"object","a":[1]}', ("object", None, {"a": [1]})),
        ('{"type":"object"}', ("object", None, {})),
        ('{"type":"ping"}', ("ping", None, Ping())),
        ('{"type":"ping","id":"q"}', ("ping", "q", Ping("q"))),
        ('{"id":7,"type":"pong"}', ("pong", 7, Pong(7))),
        ('{"type":"refresh_token","token":"a.b.c"}', ("refresh_token", None, RefreshToken("a.b.c"))),
        ('{"token":"","id":"q","type":"refresh_token"}', ("refresh_token", "q", RefreshToken("", "q"))),
    ],
)
def test_a_message_is_its_type_its_id_and_its_payload(text: str, parsed: Any) -> None:
    assert decoder.decode(text) == parsed


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({}, "token"),
        ({"token": 5}, "token"),
        ({"token": None}, "token"),
        ({"token": ["a.b.c"]}, "token"),
        ({"token": "a.b.c", "more": 1}, ""),
    ],
)
def test_a_refresh_without_a_token_is_no_message(members: dict[str, Any], path: str) -> None:
    code, errors, ref = refusal(json.dumps({"type": "refresh_token", "id": 3, **members}))
    assert (code, [error[0] for error in errors], ref) == ("invalid_message", [path], 3)


def test_a_refresh_that_parsers_read_differently_is_no_message() -> None:
    text = '{"type":"refresh_token","token":"a.b.c","token":"d.e.f"}'
    assert refusal(text) == ("invalid_message", [("", "Duplicate key")], None)


def test_a_refreshs_token_is_not_shown() -> None:
    message = decoder.decode('{"type":"refresh_token","token":"secret.secret.secret"}')
    assert "secret" not in repr(message)


NOT_AN_OBJECT = ("invalid_message", [("", "A message is a JSON object")], None)
NOT_JSON = ("invalid_message", [("", "Not valid JSON")], None)


@pytest.mark.parametrize("text", ["null", "1", "[]", '"x"', "true", '[{"type":"say","text":"hi"}]', "1.5"])
def test_a_message_is_an_object(text: str) -> None:
    assert refusal(text) == NOT_AN_OBJECT


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "}", "nonsense", '{"type":"say","text":"hi"', '{"type":"say","text":"hi"}}', "{} {}",
        "{'type':'say'}", '\ufeff{"type":"say","text":"hi"}', '{"type":"say","text":"\ud800"}',
        '{"type":"say","text":"\\ud800"}', '{"type":"say","text":"a\x00b"}', '{"type":"say","text":"a\nb"}',
        '{"type":"point","x":NaN}', '{"type":"point","x":Infinity}', '{"type":"point","x":1,"y":01}',
        '{"type":"say","text":"hi",}', '{"type":"say" "text":"hi"}', '{"type":"say","text":"\\x41"}',
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: str) -> None:
    assert refusal(text) == NOT_JSON


@pytest.mark.parametrize(
    "kind",
    [
        "shout", "", "Say", "say ", " say", "sаy", "SAY", "websocket.disconnect", "websocket.connect",
        "websocket.receive",
        "close", "accept", "send", "dispatch", "scope", "__init__", "__class__", "_x", ".x", "x" * 300, "Ping", "error",
        "value", None, 5, True, 1.5, ["say"], {"type": "say"}, [], {},
    ],
)  # fmt: skip
def test_only_declared_types_exist(kind: Any) -> None:
    assert refusal(json.dumps({"type": kind, "text": "hi", "id": 3})) == ("unknown_type", [], 3)


def test_a_message_without_a_type_is_of_no_known_one() -> None:
    assert refusal('{"text":"hi","id":"q"}') == ("unknown_type", [], "q")
    assert refusal("{}") == ("unknown_type", [], None)


BAD_ID = [("id", "Expected a string of up to 64 characters or an integer")]


@pytest.mark.parametrize("bad", ["true", "1.5", "[]", "{}", '"' + "x" * 65 + '"', "9007199254740993"])
@pytest.mark.parametrize("kind", ["say", "data", "nothing", "ping"])
def test_an_id_is_a_short_string_or_an_integer(bad: str, kind: str) -> None:
    """An id comes back as `ref`, so it is neither long nor anything but a string or a number."""
    reason, errors, ref = refusal(f'{{"type":"{kind}","text":"hi","a":1,"id":{bad}}}')
    assert reason == "invalid_message"
    assert errors in (BAD_ID, [("", "Number out of range")])
    assert ref is None


@pytest.mark.parametrize("text", ['{"type":"say","text":"hi"}', '{"type":"data","a":1}', '{"type":"ping"}'])
def test_an_id_of_null_is_none(text: str) -> None:
    with_null = decoder.decode(text[:-1] + ',"id":null}')
    assert not isinstance(with_null, Refused)
    assert with_null[:2] == (msgspec.json.decode(text)["type"], None)
    assert with_null[2] == decoder.decode(text)[2]  # type: ignore[index]  # it would not be equal if it were refused


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"type":"say","text":"a","text":"b"}', "Duplicate key"),
        ('{"type":"say","text":"a","\\u0074ext":"b"}', "Duplicate key"),
        ('{"type":"say","type":"say","text":"b"}', "Duplicate key"),
        ('{"type":"nothing","type":"say","text":"b"}', "Duplicate key"),
        ('{"type":"say","text":"a","id":1,"id":2}', "Duplicate key"),
        ('{"type":"own","text":"a","text":"b"}', "Duplicate key"),
        ('{"type":"own-required","id":"a","id":"b"}', "Duplicate key"),
        ('{"type":"ping","type":"ping"}', "Duplicate key"),
        ('{"type":"ping","id":1,"id":2}', "Duplicate key"),
        ('{"type":"point","x":1,"unread":{"a":1,"a":2}}', "Duplicate key"),
        ('{"type":"anything","data":{"a":1,"a":2}}', "Duplicate key"),
        ('{"type":"unread","data":{"a":1,"a":2}}', "Duplicate key"),
        ('{"type":"data","a":1,"a":2}', "Duplicate key"),
        ('{"type":"outer","inner":{"a":1,"a":2}}', "Duplicate key"),
        ('{"type":"say","text":"\\u0000"}', "Contains a NUL character"),
        ('{"type":"say","text":"hi","id":"\\u0000"}', "Contains a NUL character"),
        ('{"type":"point","x":1,"\\u0000":1}', "Contains a NUL character"),
        ('{"type":"anything","data":["\\u0000"]}', "Contains a NUL character"),
        ('{"type":"point","x":1000000000000000000000000000000}', "Number out of range"),
        ('{"type":"point","x":1,"y":9007199254740992}', "Number out of range"),
        ('{"type":"point","x":1,"unread":1e999}', "Number out of range"),
        ('{"type":"point","x":1,"unread":' + "1" * 5000 + "}", "Number out of range"),
        ('{"type":"anything","data":9007199254740992}', "Number out of range"),
        ('{"type":"unread","data":1e999}', "Number out of range"),
        ('{"type":"unread","data":' + nested(MAX_DEPTH) + "}", "Nested too deeply"),
        ('{"type":"anything","data":' + nested(MAX_DEPTH) + "}", "Nested too deeply"),
        ('{"type":"point","x":1,"unread":' + nested(100_000) + "}", "Nested too deeply"),
        ('{"type":"say","text":' + nested(100_000, '{"a":', "}") + "}", "Nested too deeply"),
        ('{"type":' + nested(900) + "}", "Nested too deeply"),
        (nested(100_000, '{"type":', "}"), "Nested too deeply"),
        ('{"type":"nothing","a":1,"a":1}', "Duplicate key"),
    ],
)
def test_what_parsers_disagree_about_is_refused_whatever_the_schema(text: str, what: str) -> None:
    reason, errors, _ = refusal(text)
    assert (reason, errors) == ("invalid_message", [("", what)])


def test_a_document_as_deep_as_allowed_passes() -> None:
    assert not isinstance(decoder.decode('{"type":"anything","data":' + nested(MAX_DEPTH - 1) + "}"), Refused)


@pytest.mark.parametrize(
    ("text", "path", "what"),
    [
        ('{"type":"say"}', "text", "Required"),
        ('{"type":"say","text":5}', "text", "Expected `str`, got `int`"),
        ('{"type":"say","text":null}', "text", "Expected `str`, got `null`"),
        ('{"type":"say","text":""}', "text", "Expected `str` of length >= 1"),
        ('{"type":"say","text":"' + "x" * 501 + '"}', "text", "Expected `str` of length <= 500"),
        ('{"type":"say","text":"hi","more":1}', "", "Unknown field"),
        ('{"type":"point","x":"1"}', "x", "Expected `float`, got `str`"),
        ('{"type":"point","x":true}', "x", "Expected `float`, got `bool`"),
        ('{"type":"point","x":1,"y":true}', "y", "Expected `int`, got `bool`"),
        ('{"type":"point","x":1,"y":"1"}', "y", "Expected `int`, got `str`"),
        ('{"type":"point","x":1,"y":1.5}', "y", "Expected `int`, got `float`"),
        ('{"type":"outer","inner":{}}', "inner.a", "Required"),
        ('{"type":"outer","inner":{"a":1,"b":2}}', "inner", "Unknown field"),
        ('{"type":"outer","inner":{"a":1},"several":[{"a":1},{"a":"x"}]}', "several[1].a", "Expected `int`, got `str`"),
        ('{"type":"outer","inner":{"a":1,"deeper":{"a":[]}}}', "inner.deeper.a", "Expected `int`, got `array`"),
        ('{"type":"outer","inner":{"a":1},"named":{"secret":"x"}}', "named[...]", "Expected `int`, got `str`"),
        ('{"type":"painted","colour":"green"}', "colour", "Invalid value"),
        ('{"type":"painted","colour":"red","finish":"satin"}', "finish", "Invalid value"),
        ('{"type":"painted","colour":"red","code":"A"}', "code", "Expected `str` matching regex '^[a-z]*$'"),
        ('{"type":"painted","colour":"red","by":{"spray":1}}', "by", "Invalid value"),
        ('{"type":"painted","colour":"red","by":{"brush":"x"}}', "by[...]", "Expected `int`, got `str`"),
        ('{"type":"painted","colour":"red","shape":{"type":"oval"}}', "shape.type", "Invalid value"),
        ('{"type":"painted","colour":"red","code":"post"}', "", "Invalid value"),
        ('{"type":"data","a":"x"}', "a", "Expected `int`, got `str`"),
        ('{"type":"data"}', "a", "Required"),
        ('{"type":"data","a":1,"note":"secret"}', "", "Invalid value"),
        ('{"type":"typed","a":1,"finish":"satin"}', "finish", "Invalid value"),
        ('{"type":"attrs","a":1,"colour":"green"}', "colour", "Invalid value"),
        ('{"type":"own-required","id":5}', "id", "Expected `str`, got `int`"),
        ('{"type":"own","text":5,"id":[]}', "text", "Expected `str`, got `int`"),
        ('{"type":"ping","more":1}', "", "Unknown field"),
    ],
)
def test_a_payload_that_does_not_fit_is_told_where_and_why(text: str, path: str, what: str) -> None:
    reason, errors, _ = refusal(text)
    assert (reason, errors) == ("invalid_message", [(path, what)])


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_id_comes_back_from_every_kind_of_schema(kind: str) -> None:
    answer = decoder.decode(json.dumps({"type": kind, "id": "q1", "text": [], "a": [], "x": [], "inner": 5, "data": 1}))
    assert (answer.ref if isinstance(answer, Refused) else answer[1]) == "q1"


@pytest.mark.parametrize(
    ("text", "limit", "too_big"),
    [
        ("", 1, False),
        ("a" * 10, 10, False),
        ("a" * 11, 10, True),
        ("é" * 5, 10, False),
        ("é" * 6, 10, True),
        ("€" * 3 + "a", 10, False),
        ("€" * 3 + "é", 10, True),
        ("😀" * 2 + "aa", 10, False),
        ("😀" * 2 + "aaa", 10, True),
        ("\ud800" * 3, 9, False),
        ("\ud800" * 4, 9, True),
    ],
)
def test_a_size_is_in_bytes_of_utf_8(text: str, limit: int, too_big: bool) -> None:
    assert is_too_big(text, limit) is too_big


@given(st.text(max_size=60), st.integers(1, 120))
def test_a_text_is_too_big_exactly_when_its_utf_8_is(text: str, limit: int) -> None:
    assert is_too_big(text, limit) is (len(text.encode("utf-8", "surrogatepass")) > limit)


# Against an oracle ----------------------------------------------------------------------------------------------------

MEMBERS = ("type", "id", "text", "x", "y", "inner", "data", "a", "colour", "several", "named", "more")


@st.composite
def members(draw: st.DrawFn) -> tuple[str, str]:
    """A member as some schema might want it, or not."""
    name = draw(st.sampled_from(MEMBERS))
    fitting = {
        "type": st.sampled_from([*SCHEMAS, "ping", "pong", "nothing"]).flatmap(spelled),
        "id": st.one_of(strings, numbers),
        "text": strings,
        "x": numbers,
        "y": st.integers(-LARGEST - 2, LARGEST + 2).map(str),
        "a": st.integers(0, 5).map(str),
        "colour": st.sampled_from(['"red"', '"\\u0062lue"', '"green"']),
        "inner": objects_of(st.tuples(st.sampled_from(['"a"', '"\\u0061"', '"b"']), st.sampled_from("12")), 2),
    }
    value = draw(fitting.get(name, values) if draw(st.integers(0, 5)) else values)
    return draw(spelled(name)), value


@st.composite
def messages(draw: st.DrawFn) -> str:
    """A text that is often a message and often nearly one: the members of one schema, plus and minus a few."""
    kind = draw(st.sampled_from([*SCHEMAS, "ping"]))
    wanted = {
        "say": ["text"], "point": ["x"], "outer": ["inner"], "own": ["text"], "own-required": ["id"],
        "anything": ["data"], "unread": ["data"], "painted": ["colour"], "data": ["a"], "data-id": ["id"],
        "typed": ["a"], "attrs": ["a"],
    }.get(kind, [])  # fmt: skip
    fitting: dict[str, st.SearchStrategy[str]] = {
        "text": strings,
        "x": numbers,
        "inner": st.sampled_from(['{"a":1}', '{"a":1,"deeper":{"a":2}}', '{"a":1,"\\u0061":1}', '{"a":1e999}']),
        "id": st.one_of(strings, st.integers(0, 99).map(str)),
        "data": values,
        "colour": st.just('"red"'),
        "a": st.integers(0, 10**17).map(str),
    }
    found = [(draw(spelled("type")), draw(spelled(kind)))]
    found += [(draw(spelled(name)), draw(fitting[name])) for name in wanted]
    found += draw(st.lists(members(), max_size=2))
    found = draw(st.permutations(found))
    return draw(joined("{", [f"{name}{draw(spaces)}:{value}" for name, value in found], "}"))


texts = st.one_of(messages(), messages(), objects_of(members(), 5), values, scalars)


@given(texts)
@example('{"type":"own","text":"a","text":"b"}')
@example('{"type":"own","id":{"a":1},"text":"a","text":"b"}')
@example('{"type":"point","x":1000000000000000000000000000000}')
def test_no_message_passes_in_which_an_oracle_finds_a_flaw(text: str) -> None:
    if not isinstance(decoder.decode(text), Refused):
        assert oracle(text, MAX_DEPTH) == set()


@given(texts)
def test_a_text_without_flaw_passes_exactly_when_it_fits_its_schema(text: str) -> None:
    """The other way round: fast paths, second decodes and the envelope refuse nothing that the plain schema takes."""
    try:
        flaws = oracle(text, MAX_DEPTH)
    except ValueError:
        return
    document = json.loads(text)
    if flaws or not isinstance(document, dict) or document.get("type") not in list(SCHEMAS):
        return
    kind = document.pop("type")
    schema, own_id = SCHEMAS[kind], kind in {"own", "own-required", "data-id"}
    has_good_id = True
    if not own_id and "id" in document:
        given_id = document.pop("id")
        has_good_id = isinstance(given_id, str) and len(given_id) <= 64
        has_good_id = has_good_id or (isinstance(given_id, int) and not isinstance(given_id, bool))
    try:
        expected = msgspec.json.decode(msgspec.json.encode(document), type=schema)
    except msgspec.ValidationError:
        expected = None
    answer = decoder.decode(text)
    if expected is None or not has_good_id:
        assert isinstance(answer, Refused)
        assert answer.denial.reason is Reason.INVALID_MESSAGE
    else:
        assert not isinstance(answer, Refused), answer
        assert answer[0] == kind
        assert kind == "unread" or answer[2] == expected


@given(st.one_of(st.text(), texts, st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))))
@example("\ud800")
@example("[" * 100_000)
@example('{"type":' * 20_000)
def test_any_text_is_answered(text: str) -> None:
    answer = decoder.decode(text)
    if isinstance(answer, Refused):
        assert answer.denial.reason in {Reason.INVALID_MESSAGE, Reason.UNKNOWN_TYPE}
        assert json.loads(json.dumps(answer.denial.frame(ref=answer.ref, fatal=False)))["fatal"] is False
        assert len(answer.denial.errors) <= 5


# What the client wrote is not repeated --------------------------------------------------------------------------------

CANARY = "CANARY"
canaries = st.sampled_from(
    [
        CANARY,
        f"x` - at `$.{CANARY}",
        f"' - at `$.{CANARY}",
        f"` - at `key` in `$.{CANARY}",
        f"Object missing required field `{CANARY}",
        f"Expected {CANARY}",
        f"\n - at `$.{CANARY}",
        f"${CANARY}",
    ]
)
DECLARED = ("text", "x", "y", "inner", "several", "named", "data", "a", "deeper", "colour", "finish", "code", "by",
            "shape", "note", "r", "type", "tag")  # fmt: skip
leaves: st.SearchStrategy[Any] = st.one_of(
    canaries, st.sampled_from(["red", "circle", "brush", "post", 1, -1, 1.5, True, None, ""])
)
trees: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(DECLARED) | canaries, inner, max_size=4)
    ),
    max_leaves=10,
)


@given(
    st.sampled_from([*SCHEMAS, CANARY, "ping"]), st.dictionaries(st.sampled_from(DECLARED) | canaries, trees), st.data()
)
@example("say", {f"x` - at `$.{CANARY}": 1, "text": "a"}, None)
@example("say", {f"x - at `$.{CANARY}": 1, "text": "a"}, None)
@example("painted", {"colour": f"' - at `$.{CANARY}"}, None)
@example("painted", {"colour": "red", "inner": {"a": 1, f"x` - at `$.{CANARY}": 1}}, None)
@example("painted", {"colour": "red", "shape": {"type": f"' - at `$.{CANARY}"}}, None)
@example("data", {"a": 1, "note": CANARY}, None)
@example("data", {"a": 1, "colour": f"' - at `$.{CANARY}"}, None)
def test_nothing_that_a_client_wrote_comes_back_but_its_id(kind: str, payload: dict[str, Any], data: Any) -> None:
    payload.pop("type", None)
    text = json.dumps({"type": kind, **payload})
    if data is not None and data.draw(st.booleans()):
        text = text.replace("`", "\\u0060").replace("C", "\\u0043")
    answer = decoder.decode(text)
    if isinstance(answer, Refused):
        assert CANARY not in json.dumps(answer.denial.frame(ref=answer.ref, fatal=True))
        assert CANARY not in answer.denial.detail


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"anything","data":' + nested(20_000) + "}",
        '{"type":"point","x":1,"more":[' + "1," * 32_000 + "1]}",
        '{"type":"say","text":"' + ":" * 65_000 + '"}',
        '{"type":"say","text":"hi",' + ",".join(f'"{number}":1' for number in range(5000)) + "}",
    ],
)
def test_64_kilobytes_of_malice_cost_milliseconds(text: str) -> None:
    assert best_seconds(lambda: decoder.decode(text)) < 0.1
