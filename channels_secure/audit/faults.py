"""What can be wrong with the trail."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Placed(Protocol):
    """A row, as far as it has to be named."""

    id: int
    position: int | None


class Wrong(StrEnum):
    """What can be wrong, in one word."""

    MISSING = "missing"
    ALTERED = "altered"
    MOVED = "moved"
    FORGED = "forged"
    OLD_KEY = "old_key"
    UNKEYED = "unkeyed"
    HEAD = "head"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is not as it was recorded.

    Args:
        position: the place in the chain that it is about.
        event: the primary key of the row that stands there, if one does.
        words: what the message says of that row, as the catalogues of translations have it.
    """

    what: Wrong
    message: str
    position: int | None = None
    event: int | None = None
    words: str = ""


def missing(first: int, last: int) -> Fault:
    what = f"Row {first} is missing" if first == last else f"Rows {first} to {last} are missing"
    return Fault(what=Wrong.MISSING, message=what, position=first)


def fault(what: Wrong, row: Placed, words: str) -> Fault:
    # SQLite stores a text for a place, too.
    position = row.position if isinstance(row.position, int) else None
    where = "The row" if position is None else f"Row {position}"
    message = f"{where} (id {row.id}) {words}"
    return Fault(what=what, message=message, position=position, event=row.id, words=words)
