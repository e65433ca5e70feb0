"""The spool: what was recorded is in a file before anybody acts on it, so that `kill -9` loses nothing.

Each process has a folder of its own in `AUDIT_SPOOL_DIR`, with a lock that it holds while it lives and numbered files
of lines. A line is a whole row, or the new count of one that sums up; the last line about a row is right. Files are
deleted when the database has what is in them. They are not synced to the disk: a power failure costs what the
operating system had not written yet, on Linux up to half a minute.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from channels_secure.audit import folders, lines
from channels_secure.audit.volume import Row

# Bytes: files are no longer than one, and all together are written anew when they are longer than the other.
FILE_SIZE, FULL_SIZE = 4 * 2**20, 32 * 2**20
# Seconds between two tries while nothing can be written.
RETRY = 1.0
# Rows that are written in one go.
CHUNK = 256


class Spool:
    """The files of one process. Not thread-safe: its callers hold the recorder's lock.

    `error` is the name of what keeps it from writing, empty while it works.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.folder: Path | None = None
        self.error = ""
        self._tried_at = 0.0
        self._lock = self._file = -1
        self._number = self._total = 0
        self._limit = FULL_SIZE
        # Bytes by number of the file.
        self._sizes: dict[int, int] = {}
        # Rows of which there should be lines, because the database may not have them.
        self._rows: dict[str, Row] = {}

    def append(self, row: Row, is_new: bool) -> None:
        """Write a line; what cannot be written stays in the memory, and `error` says so."""
        self._rows[row.uid] = row
        if self.error and time.monotonic() - self._tried_at < RETRY:
            return
        try:
            if self.error:
                # Some lines are missing.
                self._rewrite()
            else:
                self._line(lines.whole(row) if is_new else lines.growth(row))
        except (OSError, ValueError, TypeError, OverflowError) as error:
            self.error, self._tried_at = type(error).__name__, time.monotonic()
        else:
            self.error = ""

    def turn(self) -> int:
        """Begin another file before the next line; returns the mark that `forget()` takes."""
        self._close_file()
        return self._number

    def last_mark(self) -> int:
        """The mark of all files but the one that is being written."""
        return self._number - (self._file >= 0)

    def prune(self) -> None:
        """Forget the rows that the database has."""
        self._rows = {uid: row for uid, row in self._rows.items() if not row.stored or row.waiting}

    def forget(self, mark: int) -> list[Path]:
        """The files up to a mark, for the caller to delete: the database has what is in them."""
        done = [number for number in self._sizes if number <= mark]
        self._total -= sum(self._sizes.pop(number) for number in done)
        return [self._path(number) for number in done]

    def leave(self) -> None:
        """Delete the folder: the database has everything."""
        if self.folder is not None:
            self._close_file()
            folders.remove(self.folder, self._lock)
            self._lock, self.folder = -1, None

    def close(self) -> None:
        """Let go of the files as if the process had died."""
        self._close_file()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _line(self, line: bytes) -> None:
        if self._file < 0 or self._sizes[self._number] >= FILE_SIZE:
            self._begin_file()
        self._write(line)
        if self._total >= self._limit:
            self._rewrite()

    def _begin_file(self) -> None:
        self._close_file()
        if self.folder is None:
            self.folder, self._lock = folders.claim(Path(self.directory))
        self._number += 1
        self._file = os.open(self._path(self._number), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        self._sizes[self._number] = 0

    def _write(self, content: bytes) -> None:
        written = os.write(self._file, content)
        self._sizes[self._number] += written
        self._total += written
        if written < len(content):
            # The disk is full; the next try begins another file, so that nothing stands on the line that was begun.
            raise OSError("short write")

    def _rewrite(self) -> None:
        """Write what is still needed anew: a flood that no database takes must not fill the disk."""
        if self.folder is not None and not self.folder.is_dir():
            # Somebody has cleaned up.
            self.close()
            self.folder, self._sizes, self._total = None, {}, 0
        old = list(self._sizes)
        self.prune()
        self._begin_file()
        rows = list(self._rows.values())
        for start in range(0, len(rows), CHUNK):
            self._write(b"".join(map(lines.whole, rows[start : start + CHUNK])))
        delete(self.forget(max(old, default=0)))
        # Were the rows alone longer than the limit, each line would write them all.
        self._limit = max(FULL_SIZE, 2 * self._total)

    def _path(self, number: int) -> Path:
        if self.folder is None:
            raise FileNotFoundError(self.directory)
        return folders.file(self.folder, number)

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def delete(files: Iterable[Path]) -> None:
    """Delete files; one that cannot be deleted is read again one day, which changes nothing."""
    for file in files:
        with suppress(OSError):
            file.unlink()
