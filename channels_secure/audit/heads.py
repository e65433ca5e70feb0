"""Heads of the chain that are kept elsewhere, out of the reach of who can change the database.

signature = H("heads:" ‖ the file's other members as JSON)
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import msgspec

from channels_secure.audit import plain
from channels_secure.audit.sealing import Seal
from channels_secure.models import AuditCheckpoint
from channels_secure.models.audit import DIGEST_LENGTH

_HEAD = re.compile(r"([0-9]{1,19}):([0-9a-f]{64})", re.ASCII)
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A place in the chain and the hash that stands there."""

    position: int
    hash: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `POSITION:HASH`.

        Raises:
            ValueError: it is something else.
        """
        match = _HEAD.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a head: write POSITION:HASH as the log's audit.head has them")
        return cls(position=int(match[1]), hash=match[2])

    def __post_init__(self) -> None:
        # Whoever altered a hash may have meant it for the terminal or the log in which it is shown.
        object.__setattr__(self, "hash", plain.text(self.hash, DIGEST_LENGTH))

    def __str__(self) -> str:
        return f"{self.position}:{self.hash}"


def dump(head: Head, checkpoints: Iterable[AuditCheckpoint], now: datetime, seal: Seal) -> bytes:
    """A file that holds a head and the checkpoints."""
    content: dict[str, Any] = {
        "head": str(head),
        "saved_at": now.isoformat(),
        "checkpoints": [_plain(each) for each in checkpoints],
    }
    content["signature"] = _signature(content, seal)
    return msgspec.json.format(_encode(content), indent=2) + b"\n"


def load(content: bytes, seals: Sequence[Seal]) -> Head:
    """The head in such a file.

    Raises:
        ValueError: it is something else, or was not written with one of the keys.
    """
    try:
        members = msgspec.json.decode(content, type=dict[str, Any])
        head = Head.parse(str(members["head"]))
    except (msgspec.DecodeError, KeyError) as error:
        raise ValueError("the file holds no saved head") from error
    if not any(_signature(members, seal) == members.get("signature") for seal in seals):
        raise ValueError("the file's signature is not that of AUDIT_KEY: it was altered, or saved with another key")
    return head


def _plain(checkpoint: AuditCheckpoint) -> dict[str, Any]:
    fields = ("position", "hash", "rows", "events", "last_at", "created_at", "actor", "signature")
    return {name: getattr(checkpoint, name) for name in fields}


def _signature(members: dict[str, Any], seal: Seal) -> str:
    return seal.of(b"heads:" + _encode({name: value for name, value in members.items() if name != "signature"}))
