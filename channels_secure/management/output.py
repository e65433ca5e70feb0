"""What commands print, to a terminal or to another program."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any


@contextmanager
def listing(out: Any) -> Iterator[None]:
    """Let a command print a list of which `| head` reads as much as it wants: the end of its reader is no error.

    Args:
        out: the command's `stdout`.
    """
    try:
        yield
        out.flush()
    except BrokenPipeError:
        drop(out._out)


def drop(stream: IO[Any]) -> None:
    """Nobody reads any more: what is in the buffer would be written once more, and fail, when the stream is closed."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
