"""What the rows that are one upgrade request are written with."""

from collections.abc import Callable
from typing import Any

from tests.conformance.table import (
    EVERYWHERE,
    Driver,
    Handshake,
    Request,
    Verdict,
    add,
)
from tests.conformance.world import World


def case(
    id: str,  # noqa: A002 - the table's own word
    row: int,
    given: str,
    request: Callable[[World], Request],
    required: Verdict,
    on: tuple[Driver, ...] = EVERYWHERE,
    **more: Any,
) -> None:
    add(Handshake(id=id, row=row, given=given, request=request, required=required, on=on, **more))


def header(name: bytes, *values: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name, value) for value in values)


def bearer(token: str) -> tuple[tuple[bytes, bytes], ...]:
    return header(b"authorization", b"Bearer " + token.encode("latin-1", "replace"))
