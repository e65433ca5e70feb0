"""The spool of this process, and those of processes that have died."""

import logging
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from channels_secure.audit import folders, lines, writer
from channels_secure.audit.spool import Spool
from channels_secure.audit.volume import Row
from channels_secure.conf import get_settings

logger = logging.getLogger("channels_secure")

# Seconds between two looks for what the dead have left.
LOOK = 10.0


@dataclass(slots=True, kw_only=True)
class _State:
    own: Spool | None = None
    looked_at: float = -math.inf
    is_more: bool = False
    # Folders that cannot be read, so that one line says so.
    unreadable: set[Path] = field(default_factory=set)


_state = _State()


def reset() -> None:
    """Let go of the files without deleting them: as if the process had died."""
    global _state
    if _state.own is not None:
        _state.own.close()
    _state = _State()


def append(directory: str, row: Row, *, is_new: bool) -> None:
    """Write down an event; the recorder's lock is held."""
    own = _state.own
    if own is None or own.directory != directory:
        if own is not None:
            own.close()
        own = _state.own = Spool(directory)
    own.append(row, is_new)


def turn(*, is_calm: bool) -> int:
    """The mark of what has been recorded so far; the recorder's lock is held.

    Args:
        is_calm: the database takes what it is given. While it does not, a new file with every try would be thousands.
    """
    if _state.own is None:
        return 0
    return _state.own.turn() if is_calm else _state.own.last_mark()


def forget(mark: int) -> list[Path]:
    """The files up to a mark, to be deleted when the lock is free again: the database has what is in them."""
    return [] if _state.own is None else _state.own.forget(mark)


def prune() -> None:
    """Forget the rows that the database has; the recorder's lock is held."""
    if _state.own is not None:
        _state.own.prune()


def leave() -> None:
    """Delete the folder of this process: the database has everything; the recorder's lock is held."""
    if _state.own is not None:
        _state.own.leave()
        # One that fails is kept for its error, which is not over.
        _state.own = _state.own if _state.own.error else None


def error() -> str:
    """What keeps events from being written down, or nothing."""
    return "" if _state.own is None else _state.own.error


def is_due() -> bool:
    """Whether it is time to look for what the dead have left, or there is more of it."""
    if get_settings().audit_spool_dir is None:
        return False
    return _state.is_more or time.monotonic() - _state.looked_at >= LOOK


def adopt() -> int:
    """Store one file of a process that has died, if there is one; returns how many events the database did not have.

    One at a time, so that the trail of the living does not wait behind that of the dead.

    Raises:
        django.db.Error: the database is away; the file stays.
    """
    directory = get_settings().audit_spool_dir
    if directory is None or not is_due():
        return 0
    _state.looked_at, _state.is_more = time.monotonic(), False
    own = None if _state.own is None else _state.own.folder
    try:
        candidates = folders.others(Path(directory), own)
    except OSError as trouble:
        _complain(Path(directory), trouble)
        return 0
    for folder in candidates:
        try:
            if (lock := folders.inherit(folder)) is not None:
                return _adopt(folder, lock)
        except OSError as trouble:
            _complain(folder, trouble)
    return 0


def _complain(path: Path, trouble: OSError) -> None:
    if path not in _state.unreadable:
        _state.unreadable.add(path)
        logger.error("audit.spool_unreadable", extra={"path": str(path), "error": type(trouble).__name__})


def _adopt(folder: Path, lock: int) -> int:
    """The first file of a folder of which the lock is held, or the empty folder's end."""
    try:
        files = folders.files_of(folder)
        found = _store(files[0]) if files else 0
        if files:
            files[0].unlink(missing_ok=True)
        _state.is_more = True
        if len(files) <= 1:
            folders.remove(folder, lock)
            lock = -1
        return found
    finally:
        if lock >= 0:
            os.close(lock)


def _store(file: Path) -> int:
    with file.open("rb") as content:
        known, damaged = lines.read(content)
    if damaged:
        logger.warning("audit.spool_damaged", extra={"path": str(file), "lines": damaged})
    rows = list(known.values())
    for row in rows:
        row.uncertain = row.is_over = True
    return sum(writer.store(rows[start : start + writer.BATCH]) for start in range(0, len(rows), writer.BATCH))
