"""Where the trail was pruned: checkpoints are signed, so that whoever deletes rows without the key is found out.

    signature = H("checkpoint:" ‖ position, hash, rows, events, times and actor as JSON)

H as in `channels_secure.audit.sealing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from django.db.models import Sum

from channels_secure.audit.sealing import GENESIS, Seal
from channels_secure.models import AuditCheckpoint

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What the trail goes on from: the place and the hash of the last row that was pruned.

    Args:
        rank: which key has signed it, 0 for the newest; None when none of them has.
        last_at: the time that the last pruned row counted as; None when nothing was pruned yet.
        is_whole: whether the checkpoints account for every row that is gone.
    """

    position: int = 0
    hash: str = GENESIS
    rank: int | None = 0
    last_at: datetime | None = None
    is_whole: bool = True


def base(using: str, seals: Sequence[Seal]) -> Base:
    """The newest checkpoint, or the beginning of everything."""
    table = AuditCheckpoint.objects.using(using)
    newest = table.order_by("-position").first()
    if newest is None:
        return Base()
    return Base(
        position=newest.position,
        hash=newest.hash,
        rank=next((rank for rank, seal in enumerate(seals) if signature(newest, seal) == newest.signature), None),
        last_at=newest.last_at,
        is_whole=table.aggregate(rows=Sum("rows"))["rows"] == newest.position,
    )


def signature(checkpoint: AuditCheckpoint, seal: Seal) -> str:
    content = (
        checkpoint.position,
        checkpoint.hash,
        checkpoint.rows,
        checkpoint.events,
        _utc(checkpoint.last_at),
        _utc(checkpoint.created_at),
        checkpoint.actor,
    )
    return seal.of(b"checkpoint:" + _encode(content))


def _utc(moment: datetime) -> datetime:
    # A database may answer in a time zone of its own.
    return moment if moment.tzinfo is None else moment.astimezone(UTC)
