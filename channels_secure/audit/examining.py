"""Examining linked rows one after the other: does each stand where it was recorded, as it was recorded?

Which key may have sealed a row: any of `AUDIT_KEY`, newest first, until a row is found that a newer one has linked;
from then on an older key counts for another `OVERLAP`, while a deployment goes from process to process. No key at all
counts, where there is one, only up to a head that was kept elsewhere (`vouched`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from channels_secure.audit import plain
from channels_secure.audit.checkpoints import Base
from channels_secure.audit.sealing import FORGED, Seal, public_reason, seals
from channels_secure.models.audit import SALT_LENGTH

OVERLAP = timedelta(hours=1)
# What a value that no column should hold leads to; SQLite stores anything anywhere.
UNREADABLE = (AttributeError, TypeError, ValueError, OverflowError)


class Stored(msgspec.Struct, gc=False):
    """A row as the database has it, without a model's cost; `position` is None while it waits to be linked."""

    id: int
    position: int | None
    hash: str
    is_open: bool
    uid: str
    kind: str
    reason: str
    created_at: datetime
    last_at: datetime
    count: int
    user_id: Any
    user_key: str
    username: str
    ip: str
    path: str
    origin: str
    user_agent: str
    connection_id: str
    actor: str
    actor_from: str
    detail: Any
    salt: str
    commitment: str
    actor_salt: str
    actor_commitment: str


COLUMNS = Stored.__struct_fields__


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
    """

    what: Wrong
    message: str
    position: int | None = None
    event: int | None = None


def all_seals(keys: Sequence[str]) -> tuple[Seal, ...]:
    """The keys' seals, newest first, and last the one without a key."""
    return (*seals(keys), Seal()) if keys else (Seal(),)


def erasure(seal: Seal, uid: str, commitment: str) -> str:
    """What stands in place of a salt that was erased: no one without the key can blank a row in silence."""
    return seal.of(f"erased:{uid}:{commitment}".encode())[:SALT_LENGTH]


def missing(first: int, last: int) -> Fault:
    what = f"Row {first} is missing" if first == last else f"Rows {first} to {last} are missing"
    return Fault(what=Wrong.MISSING, message=what, position=first)


class Examiner:
    """Goes along the chain. `position` and `before` are those of the last row that it has seen."""

    def __init__(self, keys: Sequence[str], position: int, before: str, vouched: int = 0) -> None:
        self.seals, self._has_keys, self._vouched = all_seals(keys), bool(keys), vouched
        self.position, self.before = position, before
        self.rows = self.events = self.erased = 0
        self.by_key = [0] * len(self.seals)
        self._rank = 0
        self._newest: int | None = None
        self._since: datetime | None = None
        self._clock: datetime | None = None

    def examine(self, row: Stored) -> Fault | None:
        """The first thing that is wrong with the next row, if anything is."""
        try:
            return self._examine(row)
        except UNREADABLE:
            return _fault(Wrong.ALTERED, row, "cannot be read")

    def _examine(self, row: Stored) -> Fault | None:
        expected, before = self.position + 1, self.before
        if row.position is None:
            return _fault(Wrong.ALTERED, row, "has lost its place")
        self.position, self.before = row.position, row.hash
        if row.position != expected:
            return missing(expected, row.position - 1)
        seal, rank = self.seals[self._rank], self._rank
        if seal.link(expected, before, seal.digest(row)) != row.hash:
            found = self._rank_of(row, expected, before)
            if isinstance(found, Fault):
                return found
            rank = self._rank = found
        self.rows += 1
        self.events += row.count
        self.by_key[rank] += 1
        return self._fault_of_key(row, rank) or self._fault_of_fields(row, rank)

    def trusts(self, base: Base) -> bool:
        """Whether a checkpoint was signed by somebody who has the key."""
        is_unkeyed = self._has_keys and base.rank == len(self.seals) - 1
        return base.rank is not None and (not is_unkeyed or base.position <= self._vouched)

    def examine_waiting(self, row: Stored) -> Fault | None:
        """What is wrong with a row that waits to be linked."""
        try:
            return self._look_at_waiting(row)
        except UNREADABLE:
            return _fault(Wrong.FORGED, row, "waits to be linked and cannot be read")

    def _look_at_waiting(self, row: Stored) -> Fault | None:
        for rank, seal in enumerate(self.seals):
            if seal.digest(row) == row.hash:
                return self._fault_of_key(row, rank) or self._fault_of_fields(row, rank)
        return _fault(Wrong.FORGED, row, "waits to be linked and is not what was recorded")

    def _fault_of_fields(self, row: Stored, rank: int) -> Fault | None:
        """What is wrong with the fields that only the commitments cover."""
        seal = self.seals[rank]
        is_committed = seal.commitment(row) == row.commitment or self._is_committed(row, rank)
        # A salt of another length could take in a part of what it salts.
        if not is_committed or len(row.salt) != SALT_LENGTH:
            return _fault(Wrong.ALTERED, row, "has other personal fields than were recorded")
        if row.user_id is not None and plain.text(str(row.user_id), 64) != row.user_key:
            return _fault(Wrong.ALTERED, row, "names another user than was recorded")
        if (row.actor or row.actor_from or row.actor_commitment) and not self._has_its_actor(row, rank):
            return _fault(Wrong.ALTERED, row, "has another actor than was recorded")
        if row.is_open and row.position is not None:
            return _fault(Wrong.ALTERED, row, "is linked and yet open")
        return None

    def _rank_of(self, row: Stored, position: int, before: str) -> int | Fault:
        """The older of the keys that have linked and sealed a row, which may have waited while the key was changed."""
        digests = [seal.digest(row) for seal in self.seals]
        for linked, seal in enumerate(self.seals):
            for sealed, digest in enumerate(digests):
                if seal.link(position, before, digest) == row.hash:
                    return max(linked, sealed)
            if seal.link(position, before, FORGED) == row.hash:
                return _fault(Wrong.FORGED, row, "was not what had been recorded when it was linked")
        return _fault(Wrong.ALTERED, row, "is not what was recorded there")

    def _fault_of_key(self, row: Stored, rank: int) -> Fault | None:
        if rank == self._newest:
            if self._clock is None or row.last_at > self._clock:
                self._clock = row.last_at
            return None
        is_vouched = row.position is not None and row.position <= self._vouched
        if self._has_keys and rank == len(self.seals) - 1 and not is_vouched:
            return _fault(Wrong.UNKEYED, row, "was sealed without a key")
        if self._newest is None or rank < self._newest:
            self._newest, self._since, self._clock = rank, row.last_at, row.last_at
        elif not is_vouched and self._clock and self._since and self._clock - self._since > OVERLAP:
            return _fault(Wrong.OLD_KEY, row, "was sealed with an older key than the rows before it")
        return None

    def _is_committed(self, row: Stored, rank: int) -> bool:
        if any(seal.commitment(row) == row.commitment for seal in self.seals[rank:]):
            return True
        if not _is_blank(row) or not self._is_mark(row.salt, row.uid, row.commitment, rank):
            return False
        self.erased += 1
        return True

    def _has_its_actor(self, row: Stored, rank: int) -> bool:
        if any(seal.actor_commitment(row) == row.actor_commitment for seal in self.seals[rank:]):
            return True
        return not (row.actor or row.actor_from) and self._is_mark(row.actor_salt, row.uid, row.actor_commitment, rank)

    def _is_mark(self, salt: str, uid: str, commitment: str, rank: int) -> bool:
        return any(erasure(seal, uid, commitment) == salt for seal in self.seals[: rank + 1])


def _is_blank(row: Stored) -> bool:
    texts = (row.user_key, row.username, row.ip, row.path, row.origin, row.user_agent)
    return not any(texts) and row.user_id is None and row.detail == {} and public_reason(row.reason) == row.reason


def _fault(what: Wrong, row: Stored, words: str) -> Fault:
    where = "The row" if row.position is None else f"Row {row.position}"
    return Fault(what=what, message=f"{where} (id {row.id}) {words}", position=row.position, event=row.id)
