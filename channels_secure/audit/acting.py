"""Where somebody acts from: what they change meanwhile says so in the audit trail."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from channels_secure.audit import plain

_place: ContextVar[str] = ContextVar("channels_secure.acting_from", default="")


@contextmanager
def acting_from(place: object) -> Iterator[None]:
    """Let every change made inside, also in tasks begun there and in threads that these ask for, say where it was made.

    Args:
        place: an address, or whatever names a place as text; None where nothing is known of it.
    """
    token = _place.set("" if place is None else plain.text(str(place)))
    try:
        yield
    finally:
        _place.reset(token)


def place() -> str:
    """Where the one who acts now is; empty if nobody has said so."""
    return _place.get()
