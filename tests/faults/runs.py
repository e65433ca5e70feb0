"""One run: a server under load, its end, perhaps a process that adopts its spool, and then the comparison."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db.models import Sum
from django.test import override_settings

from channels_secure.audit.verifying import verify
from channels_secure.models import AuditEvent, AuditHead, AuditRollup, LiveConnection, LiveProcess
from tests.faults.clients import ACCEPTED, CLIENTS, Client, Tally
from tests.live.servers import ROOT, ServerKind, environment, start_server

# Every connection has rows of its own as long as a minute has fewer than 600, so that each can be looked for.
VISITS = (20, 60)
PATIENCE = 60.0
ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
# What each server's process ends with when it is asked to: uvicorn by the signal it was sent, Daphne in peace.
GRACEFUL = {0, -signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT}
TABLES: Any = (AuditEvent, AuditHead, AuditRollup, LiveConnection, LiveProcess)
SETTINGS: dict[str, Any] = {
    "ALLOWED_ORIGINS": ["https://example.com"],
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MAX_CONNECTIONS": {"ip": 10_000, "user": 10_000},
    "MESSAGE_RATES": {"connection": "20/s"},
    "AUTO_BLOCK_AFTER": None,
    "ERROR_BUDGET": None,
    "SEND_HELLO": True,
    "TRUSTED_PROXIES": [],
    "AUDIT_KEY": "the key of the fault runs, which seals nothing but them",
}
ADOPT = """
import asyncio, sys
from pathlib import Path
import django
django.setup()
from channels_secure import audit
while any(Path(sys.argv[1]).iterdir()):
    audit.flush_now()
    asyncio.run(audit.flush_all(5))
"""


@dataclass(kw_only=True)
class Run:
    """What came of one: how many events clients saw and the trail has, and everything that is wrong with it."""

    kind: ServerKind
    end: signal.Signals
    seen: int = 0
    recorded: int = 0
    recovered: int = 0
    lost: int = 0
    twice: int = 0
    complaints: list[str] = field(default_factory=list)


def perform(kind: ServerKind, end: signal.Signals, directory: Path, seed: int) -> Run:
    """End a server under load, SIGKILL with a spool, the others without; nobody else may write to the database."""
    for model in TABLES:
        model.objects.all().delete()
    spool = directory / f"spool-{seed}" if end is signal.SIGKILL else None
    # In turn: refusals by HTTP, and by a socket that says why it closes.
    settings = {**SETTINGS, "REJECTION": ("auto", "http")[seed % 2]}
    if spool is not None:
        settings["AUDIT_SPOOL_DIR"] = str(spool)
    run, tally = Run(kind=kind, end=end), Tally()
    _serve_and_end(run, tally, directory, settings, seed)
    if spool is not None:
        _adopt(spool, settings)
    with override_settings(CHANNELS_SECURE=settings):
        _compare(run, tally)
    return run


def _serve_and_end(run: Run, tally: Tally, directory: Path, settings: dict[str, Any], seed: int) -> None:
    chance = random.Random(seed)
    server = start_server(run.kind, directory=directory, settings=settings)
    clients = [Client(number, server.port, tally, seed) for number in range(CLIENTS)]
    try:
        for client in clients:
            client.start()
        if not tally.wait_for_visits(chance.randint(*VISITS), PATIENCE):
            run.complaints.append(f"only {tally.visits} visits in {PATIENCE:.0f} s")
        code = server.stop(first=run.end, timeout=PATIENCE)
    finally:
        server.stop(first=signal.SIGKILL)
        for client in clients:
            client.stopped.set()
    for client in clients:
        client.join(PATIENCE)
        if client.is_alive() or client.trouble is not None:
            run.complaints.append(f"a client failed: {client.trouble!r}")
    if run.end is not signal.SIGKILL and code not in GRACEFUL:
        run.complaints.append(f"the server ended with {code}")
    for word in ("audit.lost", "audit.spool_failed", "audit.row_lost", "Traceback"):
        if word in server.log():
            run.complaints.append(f"{word} in the server's log: {server.log()[-2000:]}")


def _adopt(spool: Path, settings: dict[str, Any]) -> None:
    """Start a process that stores what another has left, as each serving process does."""
    subprocess.run(
        [sys.executable, "-c", ADOPT, str(spool)], cwd=ROOT, env=environment(settings, {}), timeout=PATIENCE, check=True
    )


def _compare(run: Run, tally: Tally) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for kind, reason, count in AuditEvent.objects.values_list("kind", "reason", "count"):
        counts[kind, reason] += count
    run.seen = sum(tally.seen.values()) + len(tally.ended)
    run.recorded = sum(counts.values())
    run.complaints += [*_about_refusals(run, tally, counts), *_about_connections(run, tally)]
    run.complaints += [*_about_recovery(run), *_about_the_chain(run)]


def _about_refusals(run: Run, tally: Tally, counts: Counter[tuple[str, str]]) -> Iterator[str]:
    # Of a handshake that the end met half-way, Daphne says no more than of any other.
    spare = counts["handshake.denied", "server_restart"]
    for key in tally.asked | tally.seen:
        missing = tally.seen[key] - counts[key]
        if missing > 0 and key[0] != "message.denied":
            missing -= (covered := min(spare, missing))
            spare -= covered
        if missing > 0:
            run.lost += missing
            yield f"{key}: clients saw {tally.seen[key]}, the trail has {counts[key]}"
        if (excess := counts[key] - tally.asked[key]) > 0 and key[1] != "server_restart":
            run.twice += excess
            yield f"{key}: clients asked for {tally.asked[key]}, the trail has {counts[key]}"


def _about_connections(run: Run, tally: Tally) -> Iterator[str]:
    begun, ended = _connections(ACCEPTED[0]), _connections("connection.closed")
    run.twice += (doubled := sum(number - 1 for number in (begun + Counter()).values()))
    doubled_ends = sum(number - 1 for number in ended.values())
    run.twice += doubled_ends
    if doubled or doubled_ends:
        yield f"{doubled} connections begin twice, {doubled_ends} end twice"
    for what, seen, rows in (("beginning", tally.let_in, begun), ("end", tally.ended, ended)):
        if lost := seen - rows.keys():
            run.lost += len(lost)
            yield f"{len(lost)} connections have no {what} in the trail, for instance {min(lost)}"
    if strays := ended.keys() - begun.keys():
        yield f"{len(strays)} connections end that never began"
    if run.end is not signal.SIGKILL and (open_still := begun.keys() - ended.keys()):
        run.lost += len(open_still)
        yield f"{len(open_still)} connections have no end in the trail"


def _connections(kind: str) -> Counter[str]:
    return Counter(AuditEvent.objects.filter(kind=kind).values_list("connection_id", flat=True))


def _about_recovery(run: Run) -> Iterator[str]:
    notes = AuditEvent.objects.filter(kind="audit.recovered").values_list("detail", flat=True)
    run.recovered = sum(note["events"] for note in notes)
    if run.end is signal.SIGKILL and not run.recovered:
        yield "nothing was recovered, so that nothing was shown"


def _about_the_chain(run: Run) -> Iterator[str]:
    report = verify(everything=True)
    yield from (f"{fault.what}: {fault.message}" for fault in report.faults)
    if report.waiting:
        yield f"{report.waiting} rows are not linked"
    summed = AuditRollup.objects.aggregate(Sum("events"))["events__sum"] or 0
    if not run.recorded == report.events == summed:
        yield f"{run.recorded} events in the rows, {report.events} in the chain, {summed} in the rollups"


def as_json(run: Run) -> str:
    """One line, to keep."""
    return json.dumps({**vars(run), "end": run.end.name, "pid": os.getpid()})
