"""Examining linked rows one after the other: does each stand where it was recorded, as it was recorded?

Which key may have sealed a row: any of `AUDIT_KEY`, newest first, until a row is found that a newer one has linked;
from then on an older key counts for another `OVERLAP`, while a deployment goes from process to process. No key at all
counts, where there is one, no longer than that either, and only up to a head that was kept elsewhere (`vouched`).
A head vouches for what came before the key, and for nothing that came after it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from channels_secure.audit import plain
from channels_secure.audit.checkpoints import Base
from channels_secure.audit.faults import Fault, Wrong, fault, missing
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


def all_seals(keys: Sequence[str]) -> tuple[Seal, ...]:
    """The keys' seals, newest first, and last the one without a key."""
    return (*seals(keys), Seal()) if keys else (Seal(),)


def erasure(seal: Seal, uid: str, commitment: str) -> str:
    """What stands in place of a salt that was erased: no one without the key can blank a row in silence."""
    return seal.of(f"erased:{uid}:{commitment}".encode())[:SALT_LENGTH]


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
            return fault(Wrong.ALTERED, row, "cannot be read")

    def _examine(self, row: Stored) -> Fault | None:
        expected, before = self.position + 1, self.before
        if not isinstance(row.position, int):
            return fault(Wrong.ALTERED, row, "has lost its place")
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

    def trusts(self, base: Base, following: Stored | None) -> bool:
        """Whether a checkpoint was signed by somebody who has the key.

        Args:
            following: the row that the trail goes on with. No older key, and not none at all, has pruned what a newer
                one had linked.
        """
        if base.rank is None or (self._is_without(base.rank) and base.position > self._vouched):
            return False
        if base.rank == 0:
            return True
        linked = None if following is None else self._rank_of_link(following, base.hash)
        return linked is not None and linked >= base.rank

    def examine_waiting(self, row: Stored) -> Fault | None:
        """What is wrong with a row that waits to be linked."""
        try:
            return self._look_at_waiting(row)
        except UNREADABLE:
            return fault(Wrong.FORGED, row, "waits to be linked and cannot be read")

    def _look_at_waiting(self, row: Stored) -> Fault | None:
        for rank, seal in enumerate(self.seals):
            if seal.digest(row) == row.hash:
                return self._fault_of_key(row, rank) or self._fault_of_fields(row, rank)
        return fault(Wrong.FORGED, row, "waits to be linked and is not what was recorded")

    def is_as_committed(self, row: Stored) -> bool:
        """Whether a row that was not erased has the personal fields that were recorded."""
        try:
            return self._is_committed(row) and _names_its_user(row)
        except UNREADABLE:
            return False

    def has_its_actor(self, row: Stored) -> bool:
        """Whether a row of which no actor was erased has the one that was recorded."""
        try:
            return any(seal.actor_commitment(row) == row.actor_commitment for seal in self.seals)
        except UNREADABLE:
            return False

    def _fault_of_fields(self, row: Stored, rank: int) -> Fault | None:
        """What is wrong with the fields that only the commitments cover."""
        is_committed = self.seals[rank].commitment(row) == row.commitment and len(row.salt) == SALT_LENGTH
        if not is_committed and not self._is_committed(row) and not self._is_erased(row, rank):
            return fault(Wrong.ALTERED, row, "has other personal fields than were recorded")
        if not _names_its_user(row):
            return fault(Wrong.ALTERED, row, "names another user than was recorded")
        if not self._may_be_actor(row, rank):
            return fault(Wrong.ALTERED, row, "has another actor than was recorded")
        if row.is_open and row.position is not None:
            return fault(Wrong.ALTERED, row, "is linked and yet open")
        return None

    def _rank_of(self, row: Stored, position: int, before: str) -> int | Fault:
        """The older of the keys that have linked and sealed a row, which may have waited while the key was changed."""
        digests = [seal.digest(row) for seal in self.seals]
        for linked, seal in enumerate(self.seals):
            for sealed, digest in enumerate(digests):
                if seal.link(position, before, digest) == row.hash:
                    return max(linked, sealed)
            if seal.link(position, before, FORGED) == row.hash:
                return fault(Wrong.FORGED, row, "was not what had been recorded when it was linked")
        return fault(Wrong.ALTERED, row, "is not what was recorded there")

    def _rank_of_link(self, row: Stored, before: str) -> int | None:
        """The key that has linked a row, whatever has sealed it."""
        try:
            digests = [*(seal.digest(row) for seal in self.seals), FORGED]
        except UNREADABLE:
            return None
        for rank, seal in enumerate(self.seals):
            if row.hash in {seal.link(row.position or 0, before, digest) for digest in digests}:
                return rank
        return None

    def _fault_of_key(self, row: Stored, rank: int) -> Fault | None:
        if rank == self._newest:
            if self._clock is None or row.last_at > self._clock:
                self._clock = row.last_at
            return None
        is_vouched = row.position is not None and row.position <= self._vouched
        is_over = bool(self._clock and self._since and self._clock - self._since > OVERLAP)
        if self._is_without(rank) and (is_over or not is_vouched):
            return fault(Wrong.UNKEYED, row, "was sealed without a key")
        if self._newest is None or rank < self._newest:
            self._newest, self._since, self._clock = rank, row.last_at, row.last_at
        elif is_over:
            return fault(Wrong.OLD_KEY, row, "was sealed with an older key than the rows before it")
        return None

    def _is_without(self, rank: int) -> bool:
        """Whether it is the rank of no key, where there is one."""
        return self._has_keys and rank == len(self.seals) - 1

    def _is_committed(self, row: Stored) -> bool:
        # With whatever key, because the seal covers the commitment: a row may be sealed with one, linked with another.
        # A salt of another length could take in a part of what it salts.
        return len(row.salt) == SALT_LENGTH and any(seal.commitment(row) == row.commitment for seal in self.seals)

    def _is_erased(self, row: Stored, rank: int) -> bool:
        if not _is_blank(row) or not self._is_mark(row.salt, row.uid, row.commitment, rank):
            return False
        self.erased += 1
        return True

    def _may_be_actor(self, row: Stored, rank: int) -> bool:
        is_nobody = not (row.actor or row.actor_from)
        if is_nobody and (
            not row.actor_commitment or self._is_mark(row.actor_salt, row.uid, row.actor_commitment, rank)
        ):
            return True
        return self.has_its_actor(row)

    def _is_mark(self, salt: str, uid: str, commitment: str, rank: int) -> bool:
        return any(erasure(seal, uid, commitment) == salt for seal in self.seals[: rank + 1])


def _names_its_user(row: Stored) -> bool:
    return row.user_id is None or plain.text(str(row.user_id), 64) == row.user_key


def _is_blank(row: Stored) -> bool:
    texts = (row.user_key, row.username, row.ip, row.path, row.origin, row.user_agent)
    return not any(texts) and row.user_id is None and row.detail == {} and public_reason(row.reason) == row.reason
