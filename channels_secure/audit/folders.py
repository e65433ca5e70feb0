"""The folders of a spool: each belongs to the process that holds its lock, until that process dies.

The operating system frees a lock when its holder ends, however it ends; names and numbers of processes may come again,
on other machines and in other containers that share the directory.
"""

import errno
import os
import re
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows; a system check says that there is no spool there
    fcntl = None  # type: ignore[assignment]

LOCK, SUFFIX = "lock", ".jsonl"
TRIES = 3

# Nothing else in the directory is touched.
_FOLDER = re.compile(r"[0-9]+-[0-9a-f]{12}")
_FILE = re.compile(r"([0-9]{8,})\.jsonl")


def claim(directory: Path) -> tuple[Path, int]:
    """Make a folder that nobody else may read, and hold its lock.

    Raises:
        OSError: it cannot be made, or not locked.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(TRIES):
        folder = directory / f"{os.getpid()}-{os.urandom(6).hex()}"
        folder.mkdir(mode=0o700)
        # Whoever looks for the dead may have been faster, and have deleted the folder.
        with suppress(FileNotFoundError):
            if (lock := _locked(folder)) is not None:
                return folder, lock
    raise OSError("no folder could be locked")


def others(directory: Path, own: Path | None) -> list[Path]:
    """The folders of other processes, the one that was changed longest ago first."""
    found: list[tuple[float, Path]] = []
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            # Another process may delete it meanwhile.
            with suppress(OSError):
                path = Path(entry.path)
                if _FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False) and path != own:
                    found.append((entry.stat().st_mtime, path))
    return [path for _, path in sorted(found)]


def inherit(folder: Path) -> int | None:
    """Take the lock of a folder whose process has died; None while it lives, or when somebody else was faster.

    Raises:
        OSError: it cannot be locked, or is another account's, who could have put events there that never happened.
    """
    try:
        if fcntl is not None and folder.stat().st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "of another account", str(folder))
        return _locked(folder)
    except FileNotFoundError:
        return None


def files_of(folder: Path) -> list[Path]:
    """The files of lines, the oldest first."""
    numbers = [int(found[1]) for each in folder.iterdir() if (found := _FILE.fullmatch(each.name))]
    return [file(folder, number) for number in sorted(numbers)]


def file(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{SUFFIX}"


def remove(folder: Path, lock: int) -> None:
    """Delete a folder of which the lock is held, and let go of the lock."""
    with suppress(OSError):
        for each in files_of(folder):
            each.unlink()
        (folder / LOCK).unlink()
        folder.rmdir()
    os.close(lock)


def _locked(folder: Path) -> int | None:
    """The lock of a folder; None when somebody else holds it, or has deleted it."""
    if fcntl is None:
        raise OSError("there are no such locks here")
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(folder / LOCK, lock):
            return lock
    except BlockingIOError:
        pass
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _is_still(path: Path, lock: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(lock))
    return False
