"""Storing and verifying a long trail, each database in a process of its own that begins with an empty one."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tests.live.own_postgresql import own_postgresql

ROOT = Path(__file__).resolve().parents[2]
DATABASES = ("PostgreSQL", "SQLite")
ROUNDS, FLOOD = 10, 100_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Per second: rows `stored` and linked, rows inserted `raw`, events of a `flood`; then seconds and megabytes."""

    stored: float
    raw: float
    flood: float
    verified: float
    memory: float


def measure(database: str, rows: int) -> Trail:
    with _environ(database) as environ:
        return Trail(**_child("fill", rows, environ), **_child("verify", rows, environ))


@contextmanager
def _environ(database: str) -> Iterator[dict[str, str]]:
    if database == "PostgreSQL":
        with own_postgresql() as server:
            yield server.environ
        return
    with tempfile.TemporaryDirectory(prefix="channels-secure-bench-") as directory:
        name = str(Path(directory) / "trail.sqlite3")
        yield {"DATABASE": "sqlite", "CHANNELS_SECURE_TEST_DATABASE_NAME": name}


def _child(act: str, rows: int, environ: dict[str, str]) -> dict[str, float]:
    settings = json.dumps({"AUDIT_KEY": "the key of the benchmarks, which seals nothing but them"})
    finished = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.audit_trails", act, str(rows)],
        cwd=ROOT,
        env={**os.environ, **environ, "CHANNELS_SECURE_TEST_SETTINGS": settings},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(finished.stdout)
    return found


# In the child ---------------------------------------------------------------------------------------------------------


def fill(count: int) -> dict[str, float]:
    """Store so many rows, and between them some raw ones, which are deleted again."""
    from django.core.management import call_command

    from channels_secure.audit import writer

    call_command("migrate", verbosity=0)
    stored, raw, size = [], [], writer.BATCH
    step = max(1, count // size // ROUNDS)
    for number in range(count // size):
        batch = list(_rows(number * size, size))
        started = time.perf_counter()
        writer.store(batch)
        stored.append(size / (time.perf_counter() - started))
        if number % step == 0:
            raw.append(_insert_raw(number * size))
    return {"stored": len(stored) / sum(1 / rate for rate in stored), "raw": median(raw), "flood": _flood()}


def _rows(first: int, count: int) -> Iterator[Any]:
    """Refusals that the volume rule would never let through one by one."""
    from channels_secure.audit.volume import Row
    from channels_secure.models import new_uid

    now = time.time()
    for number in range(first, first + count):
        yield Row(
            kind="handshake.denied",
            reason="origin_not_allowed",
            created_at=now,
            last_at=now,
            uid=new_uid(),
            ip=f"198.18.{number // 256 % 256}.{number % 256}",
            path="/ws/chat/",
            origin="https://evil.test",
            user_agent=AGENT,
            connection_id=f"{number:016x}",
            detail={"detail": "origin"},
        )


def _insert_raw(first: int) -> float:
    """Rows per second of Django alone, with the same rows: neither sealed nor linked."""
    from django.db import transaction

    from channels_secure.audit import writer
    from channels_secure.models import AuditEvent

    size = writer.BATCH
    events = [writer._event_of(row) for row in _rows(first, size)]
    started = time.perf_counter()
    with transaction.atomic():
        AuditEvent.objects.bulk_create(events)
    rate = size / (time.perf_counter() - started)
    AuditEvent.objects.filter(uid__in=[event.uid for event in events]).delete()
    return rate


def _flood() -> float:
    """Events per second when they are recorded one by one, and what becomes of them is stored."""
    from channels_secure import audit

    started = time.perf_counter()
    for number in range(FLOOD):
        audit.record("handshake.denied", "rate_limited", ip=f"198.18.{number // 256 % 40}.{number % 256}")
    audit.flush_now()
    rate = FLOOD / (time.perf_counter() - started)
    if audit.pending():
        raise RuntimeError("the database did not take what was recorded")
    return rate


def verify_all(count: int) -> dict[str, float]:
    """Verify a trail of at least so many rows; the seconds, and what the process grew by at its largest."""
    from channels_secure.audit.verifying import verify

    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    report = verify()
    seconds = time.perf_counter() - started
    if report.faults or report.rows < count:
        raise RuntimeError(f"the trail does not verify: {asdict(report)}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"verified": seconds * count / report.rows, "memory": max(0, peak - before) / 1024 / 1024}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=("fill", "verify"))
    parser.add_argument("rows", type=int)
    options = parser.parse_args()
    import logging

    import django

    django.setup()
    logging.disable(logging.CRITICAL)
    act = fill if options.act == "fill" else verify_all
    json.dump(act(options.rows), sys.stdout)


if __name__ == "__main__":
    main()
