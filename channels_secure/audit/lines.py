"""The lines of a spool: what is known of a row when it is recorded, and how much it has grown since."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import msgspec

from channels_secure.audit.volume import Row

# What a line says of a row; the rest of it concerns its writing only.
WHOLE = Row.__struct_fields__[: Row.__struct_fields__.index("is_over")]
Growth = tuple[str, int, float, str, str]

_whole = attrgetter(*WHOLE)
_growth = attrgetter("uid", "count", "last_at", "kind", "reason")
_encode = msgspec.json.Encoder(enc_hook=str).encode
_types = Row.__annotations__


def whole(row: Row) -> bytes:
    return _encode(_whole(row)) + b"\n"


def growth(row: Row) -> bytes:
    return _encode(_growth(row)) + b"\n"


def read(content: Iterable[bytes]) -> tuple[dict[str, Row], int]:
    """The rows that lines tell of, by name, and the number of lines that say nothing: a full disk cuts them off."""
    rows: dict[str, Row] = {}
    damaged = 0
    for line in content:
        try:
            _read(msgspec.json.decode(line, type=list[Any]), rows)
        except (msgspec.DecodeError, UnicodeDecodeError):
            damaged += 1
    return rows, damaged


def _read(values: list[Any], rows: dict[str, Row]) -> None:
    if len(values) == len(WHOLE):
        known = {name: msgspec.convert(value, _types[name]) for name, value in zip(WHOLE, values, strict=True)}
        row = Row(**known)
        rows[row.uid] = row
        return
    uid, count, last_at, kind, reason = msgspec.convert(values, Growth)
    if uid not in rows:
        # Its beginning is in the database already.
        rows[uid] = Row(uid=uid, kind=kind, reason=reason, created_at=last_at, last_at=last_at, sums=True)
    rows[uid].count, rows[uid].last_at = count, last_at
