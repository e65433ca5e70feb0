"""JSON texts as no serialiser would write them, and an oracle that says what is wrong with one.

Texts are generated as texts: keys and strings with any mixture of literal and escaped characters, numbers of any
length, objects with equal keys. The oracle shares no code with the package.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Text = st.SearchStrategy[str]

LARGEST = 9_007_199_254_740_991
CHARACTERS = 'aebtxyz019:,{}[]"\\/ \x00\x01\t\n\x7fé\u2028\ufeff😀'
KEYS = ("a", "b", "c", "text", "type", "id", "x", "y", "", "a:b", "\x00", "é")


def escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


@st.composite
def spelled(draw: st.DrawFn, string: str) -> str:
    """A JSON string for `string`, each character written literally or as an escape."""
    pieces = []
    for character in string:
        must = character in '"\\' or ord(character) < 32
        pieces.append(escaped(character) if must or draw(st.integers(0, 5)) == 0 else character)
    return '"' + "".join(pieces) + '"'


keys: Text = st.sampled_from(KEYS).flatmap(spelled)
strings: Text = st.text(CHARACTERS, max_size=8).flatmap(spelled)
numbers: Text = st.one_of(
    st.integers(-(10**4), 10**4).map(str),
    st.integers(LARGEST - 3, LARGEST + 3).map(str),
    st.integers(-LARGEST - 3, -LARGEST + 3).map(str),
    st.integers(10**15, 10**40).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.tuples(st.integers(0, 10**20), st.sampled_from(["e", "E", "e+", "E-"]), st.integers(0, 420)).map(
        lambda parts: f"{parts[0]}{parts[1]}{parts[2]}"
    ),
    st.sampled_from(["-0", "-0.0", "1.0", "0.1234567890123456789", "1e99", "123456789012345e99", "NaN", "-Infinity"]),
)
scalars: Text = st.one_of(strings, numbers, st.sampled_from(["true", "false", "null"]))
spaces: Text = st.sampled_from(["", "", "", " ", "\n\t"])


@st.composite
def joined(draw: st.DrawFn, left: str, items: list[str], right: str) -> str:
    return left + ",".join(draw(spaces) + item + draw(spaces) for item in items) + right


def arrays_of(values: Text) -> Text:
    return st.lists(values, max_size=4).flatmap(lambda items: joined("[", items, "]"))


def objects_of(members: st.SearchStrategy[tuple[str, str]], max_size: int = 4) -> Text:
    pairs = st.builds(lambda member, left, right: f"{member[0]}{left}:{right}{member[1]}", members, spaces, spaces)
    return st.lists(pairs, max_size=max_size).flatmap(lambda items: joined("{", items, "}"))


values: Text = st.recursive(
    scalars, lambda inner: arrays_of(inner) | objects_of(st.tuples(keys, inner)), max_leaves=8
)  # fmt: skip


def nested(depth: int, opening: str = "[", closing: str = "]", core: str = "0") -> str:
    return opening * depth + core + closing * depth


class _Object(list[tuple[str, Any]]):
    """The members of an object, equal keys and all."""


class _Integer(str):
    """The digits of an integer."""


class _Float(str):
    """The digits of a number with a fraction or an exponent."""


def oracle(text: str, max_depth: int) -> set[str]:
    """What is wrong with a text that is JSON: any of duplicate, depth, nul, number. Raises ValueError if it is none."""
    document = json.loads(
        text, object_pairs_hook=_Object, parse_int=_Integer, parse_float=_Float, parse_constant=_Float
    )
    found: set[str] = set()
    _look(document, 1, max_depth, found.add)
    return found


def _look(value: Any, depth: int, max_depth: int, found: Callable[[str], None]) -> None:
    if isinstance(value, _Integer):
        if len(value.lstrip("-")) > 400 or abs(int(value)) > LARGEST:
            found("number")
    elif isinstance(value, _Float):
        if not math.isfinite(float(value)):
            found("number")
    elif isinstance(value, str):
        if "\x00" in value:
            found("nul")
    elif isinstance(value, list):
        if depth > max_depth:
            found("depth")
        inner: list[Any] = list(value)
        if isinstance(value, _Object):
            names = [name for name, _ in value]
            if len(set(names)) < len(names):
                found("duplicate")
            inner = [*names, *(member for _, member in value)]
        for item in inner:
            _look(item, depth + 1, max_depth, found)
