"""Names for what is described: the plain one where it is clear, a longer one where two things share it."""

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

_OTHER = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A thing under the name it would like to have.

    Args:
        name: the plain name.
        owner: what is put before it where another thing has the same name.
        content: what tells it from others; uses of equal name and content share their name.
    """

    name: str
    owner: str
    content: Hashable


def slug(text: str) -> str:
    """A key as AsyncAPI allows it in `components`: letters of ASCII, digits, dots, hyphens and underscores."""
    return _OTHER.sub("_", text).strip("_") or "_"


def allot(uses: Iterable[Use]) -> dict[Use, str]:
    """Give every use a key.

    All that share a name are called by their owners as well, the first one too: whether a thing stands first says
    nothing about it. A number is the last resort.
    """
    uses = list(uses)
    rivals: dict[str, dict[Hashable, Use]] = {}
    for use in uses:
        rivals.setdefault(slug(use.name), {}).setdefault((use.name, use.content), use)
    taken: set[str] = set()
    keys: dict[Any, str] = {}
    # The clear ones first, so that a longer name never takes a plain one away.
    for plain, group in sorted(rivals.items(), key=lambda item: len(item[1]) > 1):
        for use in group.values():
            wish = plain if len(group) == 1 else slug(f"{use.owner}.{use.name}")
            keys[use.name, use.content] = distinct(wish, taken)
    return {use: keys[use.name, use.content] for use in uses}


def distinct(wish: str, taken: set[str]) -> str:
    """The wish, or with the first number behind it that is free; it is taken then."""
    candidates = chain([wish], (f"{wish}_{number}" for number in count(2)))
    name = next(name for name in candidates if name not in taken)
    taken.add(name)
    return name
