"""`python -m tests.faults [runs] [--server KIND] [--end SIGNAL] [--database NAME]`: 100 runs of each by default."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.live.own_postgresql import own_postgresql
from tests.services import ServiceError

TRIES = 2
ENDS = ("SIGTERM", "SIGINT", "SIGKILL")
SERVERS = ("daphne", "uvicorn")


def main(arguments: Sequence[str]) -> int:
    """Run them in turn, and return 1 when an event was lost or doubled, or a chain does not verify."""
    options = _read(arguments)
    with tempfile.TemporaryDirectory(prefix="channels-secure-faults-") as name, _database(options.database, Path(name)):
        wrong = 0
        for server in options.server or SERVERS:
            for end in options.end or ENDS:
                wrong += _repeat(server, signal.Signals[end], options, Path(name))
    print("everything that clients saw stands in the trail, once" if not wrong else f"{wrong} runs went wrong")
    return int(bool(wrong))


def _read(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="End real servers under load.")
    parser.add_argument("runs", nargs="?", type=int, default=100, help="of each server and each end; 100 by default")
    parser.add_argument("--server", action="append", choices=SERVERS, help="only this one; may be given twice")
    parser.add_argument("--end", action="append", choices=ENDS, help="only this signal; may be given twice")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; a failed run says its own")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _database(vendor: str, directory: Path) -> Iterator[None]:
    """Set Django up with a database of the runs' own, which the servers inherit."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    with contextlib.ExitStack() as stack:
        if vendor == "postgresql":
            os.environ |= stack.enter_context(own_postgresql()).environ
        else:
            os.environ["DATABASE"] = "sqlite"
            os.environ["CHANNELS_SECURE_TEST_DATABASE_NAME"] = str(directory / "faults.sqlite3")
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        yield
        from django.db import connections

        connections.close_all()


def _repeat(server: Any, end: signal.Signals, options: argparse.Namespace, directory: Path) -> int:
    from tests.faults.runs import Run, perform

    started, wrong, runs = time.monotonic(), 0, []
    for seed in range(options.seed, options.seed + options.runs):
        run: Run = _insist(lambda seed=seed: perform(server, end, directory, seed))
        runs.append(run)
        if run.complaints:
            wrong += 1
            print(f"  --server {server} --end {end.name} --seed {seed}:", *run.complaints, sep="\n    ", flush=True)
    figures = {name: sum(getattr(run, name) for run in runs) for name in ("seen", "recorded", "recovered")}
    figures |= {name: sum(getattr(run, name) for run in runs) for name in ("lost", "twice")}
    shown = ", ".join(f"{number:,} {name}" for name, number in figures.items())
    how = "with a spool" if end is signal.SIGKILL else "without a spool"
    seconds = time.monotonic() - started
    print(f"{server}, {end.name} {how}: {options.runs} runs; events: {shown} ({seconds:.0f} s)", flush=True)
    return wrong


def _insist(act: Callable[[], Any]) -> Any:
    """Try again where a busy machine did not even start the server in time, which is nobody's fault."""
    for _ in range(TRIES):
        with contextlib.suppress(ServiceError):
            return act()
    return act()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
