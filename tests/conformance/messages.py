"""Rows 64 to 73: one frame each."""
# ruff: noqa: E501 - a table is read line by line

import json
from typing import Any

from channels_secure.policy.decisions import Reason
from tests.conformance.table import ANY_REF, CANARY, COMMUNICATOR, Answer, Message, add

INVALID = Answer(error=Reason.INVALID_MESSAGE)
UNKNOWN = Answer(error=Reason.UNKNOWN_TYPE)
TOO_BIG = Answer(close=Reason.MESSAGE_TOO_BIG)
BINARY = Answer(close=Reason.UNSUPPORTED_DATA)
MAX_SIZE = 65_536


def case(id: str, row: int, given: str, frame: str | bytes, required: Answer, **more: Any) -> None:  # noqa: A002
    add(Message(id=id, row=row, given=given, frame=frame, required=required, **more))


def answer(kind: str, message: Any) -> Answer:
    return Answer(value={"type": "answer", "to": kind, "message": message})


def invalid(path: str = "", ref: str | int | None = ANY_REF) -> Answer:
    return Answer(error=Reason.INVALID_MESSAGE, path=path, ref=ref)


def say(text: str, extra: str = "") -> str:
    return f'{{"type":"chat.say","text":"{text}"{extra}}}'


SAID = answer("chat.say", {"text": "hi"})

# 64 to 66: size and kind ----------------------------------------------------------------------------------------------

for path in ("/open/", "/echo/"):
    name = path.strip("/")
    case(
        f"size-over-{name}",
        64,
        f"one byte over MAX_MESSAGE_SIZE, {path}",
        '"' + "a" * (MAX_SIZE - 1) + '"',
        TOO_BIG,
        path=path,
    )
    case(
        f"size-bytes-{name}",
        64,
        f"fewer characters than MAX_MESSAGE_SIZE, more bytes, {path}",
        '"' + "€" * (MAX_SIZE // 2) + '"',
        TOO_BIG,
        path=path,
    )
    case(
        f"size-emoji-{name}",
        64,
        f"fewer characters than MAX_MESSAGE_SIZE, four bytes each, {path}",
        '"' + "😀" * (MAX_SIZE // 4) + '"',
        TOO_BIG,
        path=path,
    )
    case(f"size-nonsense-{name}", 64, f"too big and no JSON, {path}", "{" * (MAX_SIZE + 1), TOO_BIG, path=path)
    case(f"binary-{name}", 66, f"a binary frame, {path}", b"\x00\x01", BINARY, path=path)
    case(f"binary-json-{name}", 66, f"a binary frame of JSON, {path}", b'{"type":"nothing"}', BINARY, path=path)
    case(f"binary-empty-{name}", 66, f"an empty binary frame, {path}", b"", BINARY, path=path)
    case(f"text-empty-{name}", 66, f"an empty text frame, {path}", "", invalid(), path=path)
case(
    "size-exact",
    64,
    "exactly MAX_MESSAGE_SIZE",
    '"' + "a" * (MAX_SIZE - 2) + '"',
    Answer(value="a" * (MAX_SIZE - 2)),
    path="/echo/",
)
case(
    "size-exact-bytes",
    64,
    "exactly MAX_MESSAGE_SIZE in bytes",
    '"' + "é" * (MAX_SIZE // 2 - 1) + '"',
    Answer(value="é" * (MAX_SIZE // 2 - 1)),
    path="/echo/",
)

for name, text in {
    "null": "null", "number": "1", "list": "[]", "string": '"x"', "true": "true", "list-of-messages": '[{"type":"nothing"}]', "number-float": "1.5",
}.items():  # fmt: skip
    case(f"value-{name}", 66, f"the JSON value {text}", text, invalid())
    case(
        f"value-{name}-drop-in",
        66,
        f"the JSON value {text}, to a drop-in class",
        text,
        Answer(value=json.loads(text)),
        path="/echo/",
    )

for name, text in {
    "spaces": "   ", "word": "hello", "brace": "{", "open": '{"type":"nothing"', "trailing-comma": '{"type":"nothing",}', "trailing-text": '{"type":"nothing"} x',
    "two-values": '{"type":"nothing"}{"type":"nothing"}', "single-quotes": "{'type':'nothing'}", "comment": '{"type":"nothing"/**/}', "no-quotes": '{type:"nothing"}',
    "bom": '\ufeff{"type":"nothing"}', "tab-in-string": '{"type":"chat.say","text":"a\tb"}', "newline-in-string": '{"type":"chat.say","text":"a\nb"}',
    "escape-unknown": r'{"type":"chat.say","text":"\x41"}', "escape-half": r'{"type":"chat.say","text":"\u12"}', "octal": '{"type":"count","number":01}',
    "plus": '{"type":"count","number":+1}', "hex": '{"type":"count","number":0x1}', "dot": '{"type":"count","number":1.}', "undefined": "undefined",
    "html": "<script>alert(1)</script>", "nul": "\0", "nul-after": '{"type":"nothing"}\0', "form-feed": '{"type":"nothing"}\f',
}.items():  # fmt: skip
    case(f"json-{name}", 66, f"no JSON: {text[:40]!r}", text, invalid())
    case(f"json-{name}-drop-in", 66, f"no JSON, to a drop-in class: {text[:40]!r}", text, invalid(), path="/echo/")
case(
    "surrogate-raw",
    66,
    "a lone surrogate in the text itself",
    '{"type":"chat.say","text":"\ud800"}',
    invalid(),
    on=COMMUNICATOR,
)
case(
    "surrogate-raw-drop-in",
    66,
    "a lone surrogate in the text itself, to a drop-in class",
    '"\ud800"',
    invalid(),
    path="/echo/",
    on=COMMUNICATOR,
)
case("surrogate-raw-key", 66, "a lone surrogate in a key", '{"\ud800":1}', invalid(), path="/echo/", on=COMMUNICATOR)

# 67: depth ------------------------------------------------------------------------------------------------------------


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


for depth in (32, 31):
    case(
        f"depth-{depth}-drop-in",
        67,
        f"depth {depth}, to a drop-in class",
        nested(depth),
        Answer(value=json.loads(nested(depth))),
        path="/echo/",
    )
for depth in (33, 100, 900, 2000):
    case(f"depth-{depth}-drop-in", 67, f"depth {depth}, to a drop-in class", nested(depth), invalid(), path="/echo/")
case(
    "depth-32",
    67,
    "depth 32, the message itself included",
    f'{{"type":"anything","value":{nested(31)}}}',
    answer("anything", {}),
)
case("depth-33", 67, "depth 33, the message itself included", f'{{"type":"anything","value":{nested(32)}}}', invalid())
case(
    "depth-33-objects",
    67,
    "depth 33 of objects",
    '{"type":"anything","value":' + '{"a":' * 32 + "1" + "}" * 33,
    invalid(),
)
case(
    "depth-32-unknown-member",
    67,
    "depth 32 in a member that the schema ignores",
    f'{{"type":"loose","text":"a","x":{nested(31)}}}',
    answer("loose", {"text": "a", "note": ""}),
)
case(
    "depth-33-unknown-member",
    67,
    "depth 33 in a member that the schema ignores",
    f'{{"type":"loose","text":"a","x":{nested(32)}}}',
    invalid(),
)
case("depth-33-id", 67, "depth 33 in the id", f'{{"type":"nothing","id":{nested(32)}}}', invalid())
case(
    "depth-33-own-id",
    67,
    "depth 33 in an id that the schema declares as anything",
    f'{{"type":"any_id","text":"a","id":{nested(32)}}}',
    invalid(),
)
case("depth-33-type", 67, "depth 33 in the type", f'{{"type":{nested(32)}}}', invalid())
case("depth-33-dict", 67, "depth 33 in a dict", f'{{"type":"dict","x":{nested(32)}}}', invalid())
case("depth-33-any", 67, "depth 33 in an Any", f'{{"type":"any","x":{nested(32)}}}', invalid())
case("depth-33-pydantic", 67, "depth 33 for pydantic", f'{{"type":"pydantic","text":{nested(32)}}}', invalid())
for name, text in {
    "arrays": "[" * 60_000, "objects": '{"a":' * 13_000, "closed": nested(30_000), "mixed": '[{"a":' * 8_000, "in-message": '{"type":"anything","value":' + "[" * 60_000,
    "in-member": '{"type":"loose","text":"a","x":' + nested(30_000) + "}", "in-id": '{"type":"nothing","id":' + nested(30_000) + "}",
}.items():  # fmt: skip
    case(f"deep-{name}", 67, f"tens of thousands of levels: {text[:20]}…", text, invalid())
    case(
        f"deep-{name}-drop-in",
        67,
        f"tens of thousands of levels, to a drop-in class: {text[:20]}…",
        text,
        invalid(),
        path="/echo/",
    )
case("items-64-kB", 67, "64 kB of `[],`", "[" + "[]," * 21_000 + "[]]", Answer(value=[[]] * 21_001), path="/echo/")
case("items-64-kB-typed", 67, "64 kB of `[],` where a message is expected", "[" + "[]," * 21_000 + "[]]", invalid())
case(
    "items-64-kB-member",
    67,
    "64 kB of `[],` in a member that the schema ignores",
    '{"type":"loose","text":"a","x":[' + "[]," * 21_000 + "[]]}",
    answer("loose", {"text": "a", "note": ""}),
)
case(
    "keys-5000",
    67,
    "5,000 members",
    "{" + ",".join(f'"k{i}":1' for i in range(5000)) + "}",
    Answer(value={f"k{i}": 1 for i in range(5000)}),
    path="/echo/",
)

# 69: numbers ----------------------------------------------------------------------------------------------------------

NUMBERS = {
    "digits-4301": "1" * 4301, "digits-60000": "1" * 60_000, "2-53": str(2**53), "2-53-plus-1": str(2**53 + 1), "minus-2-53": str(-(2**53)), "2-63": str(2**63),
    "2-64": str(2**64), "2-64-plus-1": str(2**64 + 1), "1e999": "1e999", "minus-1e999": "-1e999", "1e400": "1e400", "nan": "NaN", "infinity": "Infinity", "minus-infinity": "-Infinity",
    "exponent-huge": "1e99999999999", "fraction-of-exponent": "10.1e308",
}  # fmt: skip
for name, number in NUMBERS.items():
    case(f"number-{name}", 69, f"{number[:24]} for an integer", f'{{"type":"count","number":{number}}}', INVALID)
    case(
        f"number-{name}-float",
        69,
        f"{number[:24]} for a float",
        f'{{"type":"shape","points":[{{"x":{number}}}]}}',
        INVALID,
    )
    case(f"number-{name}-any", 69, f"{number[:24]} for anything", f'{{"type":"anything","value":{number}}}', INVALID)
    case(
        f"number-{name}-ignored",
        69,
        f"{number[:24]} in a member that the schema ignores",
        f'{{"type":"loose","text":"a","x":{number}}}',
        INVALID,
    )
    case(
        f"number-{name}-own-id",
        69,
        f"{number[:24]} for an id that the schema declares as an integer",
        f'{{"type":"own_id","text":"a","id":{number}}}',
        INVALID,
    )
    case(
        f"number-{name}-any-id",
        69,
        f"{number[:24]} for an id that the schema declares as anything",
        f'{{"type":"any_id","text":"a","id":{number}}}',
        INVALID,
    )
    case(
        f"number-{name}-pydantic",
        69,
        f"{number[:24]} for pydantic",
        f'{{"type":"pydantic","text":"a","number":{number}}}',
        INVALID,
    )
    case(f"number-{name}-drop-in", 69, f"{number[:24]} to a drop-in class", number, INVALID, path="/echo/")
    case(
        f"number-{name}-drop-in-nested",
        69,
        f"{number[:24]} in a list, to a drop-in class",
        f'{{"a":[{number}]}}',
        INVALID,
        path="/echo/",
    )
case(
    "number-2-53-minus-1",
    69,
    "2^53-1 for an integer",
    f'{{"type":"count","number":{2**53 - 1}}}',
    answer("count", {"number": 2**53 - 1}),
)
case("number-minus-zero", 69, "-0 for an integer", '{"type":"count","number":-0}', answer("count", {"number": 0}))
case("number-minus-zero-drop-in", 69, "-0.0 to a drop-in class", "-0.0", Answer(value=-0.0), path="/echo/")
case(
    "number-small",
    69,
    "1e-400, which is 0",
    '{"type":"shape","points":[{"x":1e-400}]}',
    answer("shape", {"points": [{"x": 0.0, "y": 0.0}], "labels": {}}),
)

# 70: text -------------------------------------------------------------------------------------------------------------

for name, text in {
    "surrogate-high": r"\ud800",
    "surrogate-low": r"\udc00",
    "surrogate-swapped": r"\udc00\ud800",
    "surrogate-text": r"\ud800abc",
    "nul": r"\u0000",
    "nul-inside": r"a\u0000b",
}.items():
    case(f"text-{name}", 69, f"`{text}` in a text", say(text), INVALID)
    case(
        f"text-{name}-ignored",
        69,
        f"`{text}` in a member that the schema ignores",
        f'{{"type":"loose","text":"a","x":"{text}"}}',
        INVALID,
    )
    case(
        f"text-{name}-ignored-key",
        69,
        f"`{text}` as the name of a member that the schema ignores",
        f'{{"type":"loose","text":"a","{text}":1}}',
        INVALID,
    )
    case(
        f"text-{name}-ignored-deep",
        69,
        f"`{text}` deep in a member that the schema ignores",
        f'{{"type":"loose","text":"a","x":[{{"y":["{text}"]}}]}}',
        INVALID,
    )
    case(f"text-{name}-type", 69, f"`{text}` in the type", f'{{"type":"{text}"}}', INVALID)
    case(f"text-{name}-id", 69, f"`{text}` in the id", f'{{"type":"nothing","id":"{text}"}}', INVALID)
    case(
        f"text-{name}-own-id",
        69,
        f"`{text}` in an id that the schema declares",
        f'{{"type":"any_id","text":"a","id":"{text}"}}',
        INVALID,
    )
    case(f"text-{name}-any", 69, f"`{text}` for anything", f'{{"type":"anything","value":["{text}"]}}', INVALID)
    case(f"text-{name}-dict-key", 69, f"`{text}` as a key of a dict", f'{{"type":"dict","{text}":1}}', INVALID)
    case(f"text-{name}-pydantic", 69, f"`{text}` for pydantic", f'{{"type":"pydantic","text":"{text}"}}', INVALID)
    case(f"text-{name}-drop-in", 69, f"`{text}` to a drop-in class", f'"{text}"', INVALID, path="/echo/")
    case(
        f"text-{name}-drop-in-key",
        69,
        f"`{text}` as a key, to a drop-in class",
        f'{{"{text}":1}}',
        INVALID,
        path="/echo/",
    )
case("text-pair", 69, "a surrogate pair", say(r"\ud83d\ude00"), answer("chat.say", {"text": "😀"}))
case(
    "text-backslash-nul",
    69,
    "a backslash before `u0000` is no NUL",
    say(r"\\u0000"),
    answer("chat.say", {"text": r"\u0000"}),
)
case("text-colons", 69, "a text of colons", say(":::::"), answer("chat.say", {"text": ":::::"}))
case("text-digits", 69, "a text of 400 digits", say("9" * 400), answer("chat.say", {"text": "9" * 400}))
case("text-brackets", 69, "a text of 400 brackets", say("[" * 400), answer("chat.say", {"text": "[" * 400}))

# 71: duplicates -------------------------------------------------------------------------------------------------------

for name, text in {
    "type": '{"type":"nothing","type":"nothing"}', "type-other": '{"type":"nothing","type":"chat.say","text":"hi"}', "member": '{"type":"chat.say","text":"a","text":"b"}',
    "member-escaped": r'{"type":"chat.say","te\u0078t":"a","text":"b"}', "type-escaped": r'{"t\u0079pe":"nothing","type":"nothing"}', "id": '{"type":"nothing","id":1,"id":2}',
    "ignored": '{"type":"loose","text":"a","x":1,"x":2}', "nested": '{"type":"shape","points":[{"x":1,"x":2}]}', "dict-keys": '{"type":"shape","points":[],"labels":{"a":1,"a":2}}',
    "tag": '{"type":"draw","figure":{"type":"circle","type":"circle","radius":1}}', "tag-other": '{"type":"draw","figure":{"type":"circle","radius":1,"type":"square"}}',
    "own-id-absent": '{"type":"own_id","text":"a","text":"b"}', "own-id": '{"type":"own_id","text":"a","id":1,"id":2}', "any-id-absent": '{"type":"any_id","text":"a","text":"b"}',
    "optional": '{"type":"loose","text":"a","note":"b","note":"c"}', "anything": '{"type":"anything","value":{"a":1,"a":2}}', "dict": '{"type":"dict","a":1,"a":2}',
    "pydantic": '{"type":"pydantic","text":"a","text":"b"}', "typeddict": '{"type":"typeddict","text":"a","text":"b"}', "renamed": '{"type":"renamed","firstName":"a","firstName":"b"}',
}.items():  # fmt: skip
    case(f"duplicate-{name}", 71, f"a key twice: {text[:60]}", text, invalid())
for name, text in {
    "top": '{"a":1,"a":2}',
    "nested": '{"a":[{"b":1,"b":2}]}',
    "escaped": r'{"a":1,"\u0061":2}',
    "in-string": '{"a":"x:y","a":1}',
    "empty": '{"":1,"":2}',
    "mixed": '{"a":{"b":1},"c":":","a":1}',
}.items():
    case(f"duplicate-{name}-drop-in", 71, f"a key twice, to a drop-in class: {text}", text, invalid(), path="/echo/")

# 72: schemas ----------------------------------------------------------------------------------------------------------

case("size-10-MB", 72, "a text of 10 MB", say("a" * 10_000_000), TOO_BIG, on=COMMUNICATOR)
case("valid", 72, "a valid message", say("hi"), SAID)
case("valid-id", 72, "a valid message with an id", say("hi", ',"id":7'), SAID)
for name, text, where in (
    ("unknown-field", say("hi", f',"{CANARY}":1'), ""),
    ("missing-field", '{"type":"chat.say"}', "text"),
    ("null", '{"type":"chat.say","text":null}', "text"),
    ("number-for-text", '{"type":"chat.say","text":1}', "text"),
    ("list-for-text", '{"type":"chat.say","text":["hi"]}', "text"),
    ("object-for-text", f'{{"type":"chat.say","text":{{"{CANARY}":1}}}}', "text"),
    ("too-short", say(""), "text"),
    ("too-long", say("a" * 501), "text"),
    ("bool-for-int", '{"type":"count","number":true}', "number"),
    ("text-for-int", f'{{"type":"count","number":"{CANARY}"}}', "number"),
    ("float-for-int", '{"type":"count","number":1.5}', "number"),
    ("text-for-list", '{"type":"shape","points":"x"}', "points"),
    ("nested-wrong", '{"type":"shape","points":[{"x":1},{"x":"a"}]}', "points[1].x"),
    ("nested-missing", '{"type":"shape","points":[{}]}', "points[0].x"),
    ("nested-unknown", f'{{"type":"shape","points":[{{"x":1,"{CANARY}":1}}]}}', "points[0]"),
    ("dict-value", f'{{"type":"shape","points":[],"labels":{{"{CANARY}":"x"}}}}', "labels[...]"),
    ("union-tag-unknown", f'{{"type":"draw","figure":{{"type":"{CANARY}","side":1}}}}', None),
    ("union-tag-missing", '{"type":"draw","figure":{"side":1}}', None),
    ("union-other-member", '{"type":"draw","figure":{"type":"circle","side":1}}', None),
    ("renamed-python-name", '{"type":"renamed","first_name":"a"}', None),
    ("own-check", '{"type":"checked","text":"refuse me"}', None),
    ("dataclass-missing", '{"type":"dataclass"}', "text"),
    ("dataclass-wrong", f'{{"type":"dataclass","text":["{CANARY}"]}}', "text"),
    ("typeddict-missing", '{"type":"typeddict"}', "text"),
    ("typeddict-wrong", '{"type":"typeddict","text":1}', "text"),
    ("attrs-missing", '{"type":"attrs"}', "text"),
    ("attrs-wrong", '{"type":"attrs","text":1}', "text"),
    ("pydantic-missing", '{"type":"pydantic"}', "text"),
    ("pydantic-wrong", f'{{"type":"pydantic","text":["{CANARY}"]}}', "text"),
    ("pydantic-unknown", f'{{"type":"pydantic","text":"a","{CANARY}":1}}', ""),
    ("pydantic-too-long", '{"type":"pydantic","text":"' + "a" * 501 + '"}', "text"),
    ("pydantic-many", '{"type":"pydantic","text":"a",' + ",".join(f'"{CANARY}{i}":1' for i in range(20)) + "}", None),
    # What msgspec's own texts repeat must not be taken for a path.
    ("forged-path", say("hi", f',"a - at `$.{CANARY}":1'), ""),
    ("forged-path-tag", f'{{"type":"draw","figure":{{"type":"x - at `$.{CANARY}","side":1}}}}', None),
    ("forged-path-key", f'{{"type":"shape","points":[],"labels":{{"a` - at `$.{CANARY}":"x"}}}}', None),
    ("forged-missing", say("hi", f',"x` - Object missing required field `{CANARY}":1'), ""),
):
    case(
        f"schema-{name}",
        72,
        f"{text[:60].replace(CANARY, '…')}",
        text,
        Answer(error=Reason.INVALID_MESSAGE, path=where),
    )
for name, text, message in (
    (
        "shape",
        '{"type":"shape","points":[{"x":1,"y":2.5}],"labels":{"a":1}}',
        {"points": [{"x": 1.0, "y": 2.5}], "labels": {"a": 1}},
    ),
    ("draw", '{"type":"draw","figure":{"type":"square","side":1}}', {"figure": {"type": "square", "side": 1}}),
    ("nothing", '{"type":"nothing"}', {}),
    ("renamed", '{"type":"renamed","firstName":"a"}', {"firstName": "a"}),
    ("checked", '{"type":"checked","text":"fine"}', {"text": "fine"}),
    ("loose", '{"type":"loose","text":"a","unknown":{"x":[1]}}', {"text": "a", "note": ""}),
    ("own_id", '{"type":"own_id","text":"a","id":5}', {"text": "a", "id": 5}),
    ("own_id", '{"type":"own_id","text":"a"}', {"text": "a", "id": None}),
    ("dataclass", '{"type":"dataclass","text":"a","id":1}', {"text": "a"}),
    ("dataclass_id", '{"type":"dataclass_id","text":"a","id":"b"}', {"text": "a", "id": "b"}),
    ("typeddict", '{"type":"typeddict","text":"a"}', {"text": "a"}),
    ("attrs", '{"type":"attrs","text":"a"}', {"text": "a"}),
    ("pydantic", '{"type":"pydantic","text":"a","id":"x"}', {"text": "a", "number": 0}),
    ("pydantic_id", '{"type":"pydantic_id","text":"a","id":"b"}', {"text": "a", "id": "b"}),
    ("dict", '{"type":"dict","a":1,"id":"x","b":2}', {"members": 2}),
    ("any", '{"type":"any","a":1}', {"members": 1}),
):
    case(f"schema-fits-{name}-{len(text)}", 72, text, text, answer(name, message))
for name, text, ref in (
    ("string", '"seven"', "seven"),
    ("integer", "7", 7),
    ("negative", "-7", -7),
    ("zero", "0", 0),
    ("empty", '""', ""),
    ("long", '"' + "i" * 64 + '"', "i" * 64),
    ("null", "null", None),
):
    case(
        f"id-{name}",
        72,
        f"a message that does not fit, id {text[:12]}",
        f'{{"type":"chat.say","text":1,"id":{text}}}',
        Answer(error=Reason.INVALID_MESSAGE, path="text", ref=ref),
    )
    case(
        f"id-{name}-unknown-type",
        73,
        f"an unknown type, id {text[:12]}",
        f'{{"type":"nope","id":{text}}}',
        Answer(error=Reason.UNKNOWN_TYPE, ref=ref),
    )
case("id-null-valid", 72, "a valid message whose id is null", say("hi", ',"id":null'), SAID)
for name, text in {
    "float": "1.5",
    "true": "true",
    "list": '["a"]',
    "object": '{"a":1}',
    "too-long": '"' + "i" * 65 + '"',
    "too-big": str(2**53),
}.items():
    case(f"id-{name}", 72, f"an id that is {text[:12]}", say("hi", f',"id":{text}'), INVALID)
    case(f"id-{name}-ping", 72, f"a ping whose id is {text[:12]}", f'{{"type":"ping","id":{text}}}', INVALID)
case("ping", 72, "a ping", '{"type":"ping"}', Answer(value={"type": "pong"}))
case("ping-id", 72, "a ping with an id", '{"type":"ping","id":7}', Answer(value={"type": "pong", "ref": 7}))
case("ping-extra", 72, "a ping with something more", '{"type":"ping","x":1}', INVALID)
case(
    "ping-drop-in",
    72,
    "a ping, to a drop-in class without control frames",
    '{"type":"ping"}',
    Answer(value={"type": "ping"}),
    path="/echo/",
)

# 73: types ------------------------------------------------------------------------------------------------------------

for kind in (
    "websocket.disconnect", "websocket.connect", "websocket.receive", "websocket.close", "close", "accept", "send", "dispatch", "scope", "__init__", "__class__", "_x", ".x",
    "", " ", "handle_admin", "handle.admin", "a.layer.event", "a_layer_event", "say", "Chat.Say", "CHAT.SAY", "chat.say ", " chat.say", "chat.sаy", "chat_say", "chat.say.", "x" * 300,
    "channels_secure.broadcast", "error", "hello", "receive_json", "authorize", "channel_layer", "chat.say/../nothing", "value", "Nothing", "nothingMessage",
):  # fmt: skip
    case(
        f"type-{kind[:40]!r}",
        73,
        f"the type {kind[:40]!r}",
        json.dumps({"type": kind, "text": CANARY}, ensure_ascii=False),
        UNKNOWN,
    )
for name, text in {
    "missing": '{"text":"a"}', "empty-object": "{}", "number": '{"type":5}', "list": '{"type":["a"]}', "null": '{"type":null}', "object": '{"type":{"a":1}}', "true": '{"type":true}', "float": '{"type":1.5}',
    "key-case": '{"Type":"nothing"}', "pair": '{"type":["chat.say","nothing"]}',
}.items():  # fmt: skip
    case(f"type-{name}", 73, f"a type that is no string: {text}", text, UNKNOWN)
case("type-drop-in", 73, "no type, to a drop-in class", '{"a":1}', Answer(value={"a": 1}), path="/echo/")
case(
    "type-drop-in-reserved",
    73,
    "a reserved type, to a drop-in class, is only data",
    '{"type":"websocket.disconnect"}',
    Answer(value={"type": "websocket.disconnect"}),
    path="/echo/",
)
for kind in ("loose", "dict", "dataclass", "pydantic", "nothing", "unknown.type"):
    for name, flaw in {"number": "1e999", "depth": nested(33), "nul": r'"\u0000"', "duplicate": '1,"x":2'}.items():
        case(
            f"ref-{kind}-{name}",
            72,
            f"an id comes back, whatever else is wrong ({name}), type {kind}",
            f'{{"type":"{kind}","id":7,"text":"a","x":{flaw}}}',
            invalid(ref=7),
        )
case(
    "permission",
    73,
    "a message that needs a permission",
    '{"type":"permitted","id":1}',
    Answer(error=Reason.PERMISSION_DENIED, ref=1),
)
case(
    "refresh-token-frame",
    73,
    "a token in a frame is neither logged nor echoed",
    f'{{"type":"unknown.refresh","token":"{CANARY}"}}',
    UNKNOWN,
)
