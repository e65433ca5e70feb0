"""TypeScript types, as the compiler sees them: good programs pass, and each bad line is an error."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from msgspec import Meta

from channels_secure.asyncapi import Route, document, typescript
from channels_secure.asyncapi.schemas import older
from channels_secure.asyncapi.typescript import type_name
from channels_secure.asyncapi.typescript.comments import comment, limits_in
from channels_secure.asyncapi.typescript.types import Types, literal
from tests.asyncapi.conftest import Compile
from tests.asyncapi.test_document import NOT_HTML, basket, consumer, item
from tests.asyncapi.test_schemas import BAD, GOOD
from tests.asyncapi.wire import DropIn, EverythingConsumer, Plain
from tests.node import run_tsc

STATIC = Path(__file__).resolve().parents[2] / "channels_secure" / "static" / "channels_secure"

# What TypeScript has no words for: lengths, ranges, patterns, and members that are not named.
BEYOND_TYPES = [
    message
    for message in BAD
    if any(
        message == {"type": "everything", "text": "abc", "number": 4, **beyond}
        for beyond in [
            {"text": ""}, {"text": "abcdef"}, {"text": "ABC"}, {"number": 3}, {"number": 12}, {"id": "x" * 65},
            {"id": 2**53}, {"counts": {"a": -1}}, {"boxes": []}, {"boxes": ["a", "b", "c"]}, {"boxes": ["long"]},
            {"shape": {"kind": "circle", "centre": [1, 2], "radius": 0}},
        ]
    )
    or message
    in [
        {"type": "place", "latitude": 91},
        {"type": "note", "title": ""},
        {"type": "counts"},
        {"type": "counts", "a": "one"},
        {"type": "counts", "a": 1, "b": 2, "c": 3, "d": 4},
    ]
]  # fmt: skip
# TypeScript says so of literals only, and JSON may well bring them.
MORE_THAN_DECLARED = [{"type": "place", "id": 1, "latitude": 1, "more": "is ignored"}]


@pytest.fixture(scope="module")
def types() -> str:
    return typescript(document([EverythingConsumer]))


def program(lines: list[str]) -> str:
    return 'import type { FromEverythingConsumer, ToEverythingConsumer, Tree } from "./wire";\n' + "\n".join(lines)


def test_every_message_that_is_taken_has_the_type_and_every_other_has_not(
    types: str, compile_typescript: Compile
) -> None:
    good = [message for message in GOOD if message not in MORE_THAN_DECLARED]
    bad = [message for message in BAD if message not in BEYOND_TYPES]
    assert len(good) > 25
    assert len(bad) > 25
    lines = [f"export const good{n}: ToEverythingConsumer = {json.dumps(each)};" for n, each in enumerate(good)]
    for n, each in enumerate(bad):
        lines += ["// @ts-expect-error", f"export const bad{n}: ToEverythingConsumer = {json.dumps(each)};"]
    assert compile_typescript(types, program(lines)) == []


def test_a_program_that_listens_is_held_to_the_types(types: str, compile_typescript: Compile) -> None:
    good = """
export function hear(frame: FromEverythingConsumer): string {
  switch (frame.type) {
    case "chat.said": return frame.user + frame.text + frame.at;
    case "chat.left": return frame.user;
    case "chat.joined": return frame.user;
    case "hello": return frame.connection_id + String(frame.max_message_size);
    case "token_expiring": return String(frame.expires_in);
    case "token_refreshed": return String(frame.expires_in ?? 0);
    case "ping": return "";
    case "pong": return String(frame.ref ?? "");
    case "error": {
      if (frame.code === "rate_limited") return String((frame.retry_after ?? 1) * 2);
      return (frame.errors ?? []).map((each) => each.path.toUpperCase()).join();
    }
    default: { const none: never = frame; return none; }
  }
}
export const depth = (tree: Tree): number => Math.max(0, ...(tree.children ?? []).map(depth)) + 1;
"""
    bad = """
export function mishear(frame: FromEverythingConsumer): unknown {
  // @ts-expect-error: not every frame has it
  frame.user;
  // @ts-expect-error: no such type
  if (frame.type === "chat.shouted") return 1;
  if (frame.type === "error") {
    // @ts-expect-error: it may be missing
    frame.retry_after.toFixed();
    // @ts-expect-error: no such code
    return frame.code === "no_such_code";
  }
  if (frame.type === "token_refreshed") {
    // @ts-expect-error: it may be null
    return frame.expires_in.toFixed();
  }
  return 0;
}
"""
    assert compile_typescript(types, program([good, bad])) == []


def test_the_types_are_those_of_the_browsers_client(types: str, compile_typescript: Compile, tmp_path: Path) -> None:
    (tmp_path / "client.d.ts").write_text((STATIC / "client.d.ts").read_text())
    lines = """
import { SecureSocket } from "./client";
import type { FromEverythingConsumer, ToEverythingConsumer } from "./wire";
const socket = new SecureSocket<ToEverythingConsumer, FromEverythingConsumer>("/ws/", { session: true });
socket.send({ type: "options", loud: true });
// @ts-expect-error: a member is missing
socket.send({ type: "options" });
socket.on("message", (frame) => { if (frame.type === "chat.said") frame.text.trim(); });
// @ts-expect-error: no such type
socket.on("message", (frame) => frame.type === "chat.shouted");
"""
    assert compile_typescript(types, lines) == []


def test_javascript_is_held_to_the_types(types: str, tmp_path: Path) -> None:
    (tmp_path / "wire.d.ts").write_text(types)
    (tmp_path / "page.js").write_text("""
/** @param {import("./wire").FromEverythingConsumer} frame */
export function hear(frame) {
  if (frame.type === "chat.said") return frame.text;
  return frame.txet;
}
""")
    done = run_tsc("--strict", "--checkJs", "--noEmit", "--types", "", "--target", "es2022", "page.js", cwd=tmp_path)
    (complaint,) = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert complaint.startswith("page.js(5,16): error TS2339: Property 'txet' does not exist")


def test_a_program_that_is_wrong_is_told_so(types: str, compile_typescript: Compile) -> None:
    complaints = compile_typescript(types, program(['export const x: ToEverythingConsumer = { type: "nothing" };']))
    assert len(complaints) >= 1
    assert "program.ts(2," in complaints[0]


def test_channels_are_found_by_key_with_their_addresses(types: str, compile_typescript: Compile) -> None:
    lines = """
import type { Channels } from "./wire";
export const send: Channels["EverythingConsumer"]["to"] = { type: "options", loud: true };
export const address: Channels["EverythingConsumer"]["address"] = null;
export type Frame = Channels["EverythingConsumer"]["from"]["type"];
// @ts-expect-error: no such channel
export type None = Channels["NothingConsumer"];
"""
    assert compile_typescript(types, lines) == []


# msgspec itself refuses quotes, backslashes and control characters.
HOSTILE = ["", "a b", "it's", "1a", "class", "a\u2028b", "__proto__", "*/", "größe", "🙂", "${x}", "$ref", "a-b"]


def test_names_that_are_no_identifiers_are_members(compile_typescript: Compile) -> None:
    fields = [(f"field{n}", int, msgspec.field(name=name)) for n, name in enumerate(HOSTILE)]
    odd = msgspec.defstruct("Odd", fields, forbid_unknown_fields=True)
    types = typescript(document([consumer("Chat", odd)]))
    message = {"type": "say", **dict.fromkeys(HOSTILE, 1)}
    # As JSON: in source, `__proto__` is no member.
    source = json.dumps(message).replace('"__proto__"', '["__proto__"]')
    good = f"export const x: ToChat = {source};"
    bad = good.replace("const x", "const y").replace('"a b": 1, ', "")
    lines = ['import type { ToChat } from "./wire";', good, "// @ts-expect-error: a member is missing", bad]
    assert compile_typescript(types, "\n".join(lines)) == []


def test_a_type_may_be_called_anything(compile_typescript: Compile) -> None:
    kinds = ["größer/als ~1", "日本", "1st", "..", "a*/b", "a\u2028b", "class", NOT_HTML]
    types = typescript(document([consumer(f"Chat{n}", item("a"), kind=kind) for n, kind in enumerate(kinds)]))
    lines = [f"import type {{ {', '.join(f'ToChat{n}' for n in range(len(kinds)))} }} from './wire';"]
    for n, kind in enumerate(kinds):
        lines += [
            f"export const x{n}: ToChat{n} = {{ type: {json.dumps(kind)}, a: 1 }};",
            "// @ts-expect-error: another type",
            f"export const y{n}: ToChat{n} = {{ type: {json.dumps(kind + '!')}, a: 1 }};",
        ]
    assert compile_typescript(types, "\n".join(lines)) == []


def test_types_of_one_name_are_kept_apart(compile_typescript: Compile) -> None:
    class Clash(msgspec.Struct):
        chat_say: int

    Clash.__name__ = Clash.__qualname__ = "ChatSay"
    holder = msgspec.defstruct("Holder", [("clash", Clash), ("channels", msgspec.defstruct("Channels", [("x", int)]))])
    pair = [
        consumer("Buy", basket("price")),
        consumer("Sell", basket("gain")),
        consumer("Talk", holder, kind="chat.say"),
    ]
    types = typescript(document(pair))
    lines = """
import type { ToBuy, ToSell, ToTalk } from "./wire";
export const a: ToBuy = { type: "say", item: { price: 1 } };
export const b: ToSell = { type: "say", item: { gain: 1 } };
export const c: ToTalk = { type: "chat.say", clash: { chat_say: 1 }, channels: { x: 1 } };
// @ts-expect-error: the other's item
export const d: ToBuy = { type: "say", item: { gain: 1 } };
"""
    assert compile_typescript(types, lines) == []


def test_whatever_a_project_writes_stays_inside_of_comments(compile_typescript: Compile) -> None:
    text = f"{NOT_HTML}\n */ export const stolen = 1; /*\u2028 stolen; \r stolen;"
    said = Annotated[str, Meta(title=text, description=text, pattern=text)]
    odd = msgspec.defstruct("Odd", [("a", said, text)], namespace={"__doc__": text})
    types = typescript(document([Route(consumer=consumer("Chat", odd, __doc__=text), address=text)]))
    assert types.count("export const stolen") >= 6
    assert compile_typescript(types, 'import * as wire from "./wire";\n// @ts-expect-error\nwire.stolen;') == []


def test_consumers_that_declare_nothing_have_types_too(compile_typescript: Compile) -> None:
    lines = """
import type { FromDropIn, ToDropIn, ToPlain } from "./wire";
export const a: ToDropIn = [1, { b: null }];
export const b: ToPlain = "x";
export const c = (frame: FromDropIn): string => frame.code;
"""
    assert compile_typescript(typescript(document([DropIn, Plain])), lines) == []
    assert (
        compile_typescript(typescript(document([])), 'import type { Channels } from "./wire";')
        == [
            # Nothing else is said of an import that is not used.
        ]
    )


# One construct at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, "unknown"),
        (False, "never"),
        ({}, "unknown"),
        ({"not": {}}, "never"),
        ({"type": "integer"}, "number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"enum": ["a", 1, None, True]}, '"a" | 1 | null | true'),
        ({"const": {"a": [1]}}, "{ a: [1] }"),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "items": {"type": ["string", "null"]}}, "(string | null)[]"),
        ({"type": "array", "maxItems": 0}, "never[]"),
        ({"type": "array", "items": [{"type": "string"}], "minItems": 1}, "[string, ...unknown[]]"),
        ({"type": "array", "items": [{"type": "string"}, {}], "minItems": 1, "maxItems": 2}, "[string, unknown?]"),
        ({"type": "array", "items": [{}], "additionalItems": False}, "[unknown?]"),
        ({"type": "object"}, "{ [key: string]: unknown }"),
        ({"type": "object", "additionalProperties": False}, "{ [key: string]: never }"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "{ [key: string]: number }"),
        ({"type": "object", "patternProperties": {"^a": {"type": "number"}}}, "{ [key: string]: number }"),
        (
            {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "number"}},
            '{ [key in "a" | "b"]?: number }',
        ),
        (
            {"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": {"type": "string"}},
            "{ a?: 1; [key: string]: string | 1 | undefined }",
        ),
        ({"anyOf": [{"type": "string"}, {}]}, "unknown"),
        ({"anyOf": [{"type": "string"}, {"not": {}}]}, "string"),
        ({"oneOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}]}, "TypeA | null"),
        ({"allOf": [{"$ref": "#/components/schemas/A"}], "default": 1}, "TypeA"),
        ({"allOf": [{"$ref": "#/components/schemas/A"}, {"type": ["string", "null"]}]}, "TypeA & (string | null)"),
        ({"$ref": "https://example.com/elsewhere"}, "unknown"),
        ({"type": "no such type"}, "unknown"),
    ],
)
def test_a_schema_as_a_type(schema: Any, expected: str) -> None:
    assert Types({"A": "TypeA"}).of(schema) == expected


def test_what_a_type_cannot_say_stands_in_a_comment() -> None:
    schema = msgspec.json.schema(Meta and list[str])
    assert limits_in(schema) == ""
    assert limits_in({"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 3}}) == (
        "maxItems 2, items: maxLength 3"
    )
    assert limits_in({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}) == "integer, minimum 0"
    assert limits_in(older({"type": "array", "prefixItems": [{}], "minItems": 1, "maxItems": 1})) == ""


def test_a_comment_of_several_lines_is_a_block() -> None:
    assert comment([]) == ""
    assert comment(["one"]) == "/** one */\n"
    assert comment(["one", "two\n\nthree*/"], "  ") == "  /**\n   * one\n   * two\n   *\n   * three*\\/\n   */\n"


@pytest.mark.parametrize(
    ("key", "name"),
    [("chat.say", "ChatSay"), ("ToDo_item", "ToDoItem"), ("1st", "Type1st"), ("..", "Type"), ("a-b c", "ABC")],
)
def test_a_key_as_the_name_of_a_type(key: str, name: str) -> None:
    assert type_name(key) == name


def test_a_literal_is_one_line_for_every_reader() -> None:
    assert literal('a\u2028b\u2029\n"') == '"a\\u2028b\\u2029\\n\\""'


class Step(NamedTuple):
    name: str
    after: "Step | None" = None


def test_a_type_of_tuples_may_hold_itself(compile_typescript: Compile) -> None:
    class Walk(TypedDict):
        step: Step
        kind: Literal["slow"]

    types = typescript(document([consumer("Chat", Walk)]))
    lines = """
import type { ToChat } from "./wire";
export const a: ToChat = { type: "say", step: ["a", ["b", null]], kind: "slow" };
// @ts-expect-error: not that deep
export const b: ToChat = { type: "say", step: ["a", ["b", [1]]], kind: "slow" };
"""
    assert compile_typescript(types, lines) == []
