"""What Prometheus is told: read from a real exposition, of real sockets."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from prometheus_client.parser import text_string_to_metric_families

from channels_secure import audit, signals, supervisor
from channels_secure.audit import writer
from channels_secure.auth.base import Identity
from channels_secure.connections import registry
from channels_secure.metrics import Metrics
from channels_secure.policy.decisions import RULES
from channels_secure.policy.handshake import Handshake
from channels_secure.supervisor.counting import Counting
from tests.auth.tokens import token_for
from tests.live.servers import environment
from tests.sockets import Echo, ask, calm, connect, quiet, swept, until  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]
ROOT = Path(__file__).resolve().parents[1]


class Exposition:
    """What a scraper of one registry reads."""

    def __init__(self, to: CollectorRegistry) -> None:
        self._registry = to

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        text = generate_latest(self._registry).decode()
        return {
            (sample.name.removeprefix("channels_secure_"), frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples()[name, frozenset(labels.items())]


@pytest.fixture
def told() -> Iterator[Exposition]:
    """A registry of the test's own, filled from now on."""
    fresh = CollectorRegistry()
    metrics = Metrics(fresh)
    metrics.connect()
    yield Exposition(fresh)
    metrics.disconnect()


# Sockets -------------------------------------------------------------------------------------------------------------


async def test_open_sockets_are_counted_by_what_they_were_let_in_with(told: Exposition, user: User) -> None:
    async with connect(Echo, user=user), connect(Echo), connect(Echo):
        await swept()
        assert told("connections", auth="session") == 1
        assert told("connections", auth="anonymous") == 2
    await calm()
    assert told("connections", auth="session") == told("connections", auth="anonymous") == 0


async def test_a_socket_counts_from_its_handshake_to_its_end(told: Exposition, user: User) -> None:
    async with connect(Echo, user=user):
        assert told("handshakes_total", result="accepted") == 1
        assert told("auth_attempts_total", method="session", result="accepted") == 1
        assert told("handshake_duration_seconds_count") == 1
        assert told("connection_duration_seconds_count") == 0
    assert told("connection_duration_seconds_count") == 1
    assert told("disconnects_total", initiator="client", reason="none") == 1


async def test_who_ended_a_socket_and_why_is_counted(told: Exposition) -> None:
    async with connect(Echo) as socket:
        await socket.send_to(bytes_data=b"\x00")
        await socket.closing()
    await calm()
    assert told("disconnects_total", initiator="policy", reason="unsupported_data") == 1


async def test_admissions_are_counted_also_where_the_trail_leaves_them_out(told: Exposition, settings: Any) -> None:
    settings.CHANNELS_SECURE = {"AUDIT_ADMISSIONS": False}
    async with connect(Echo):
        pass
    assert told("handshakes_total", result="accepted") == told("connection_duration_seconds_count") == 1
    assert told("audit_events_total", kind="connection.accepted") == 0


async def test_messages_are_counted_by_the_supervisor_and_cost_themselves_nothing(told: Exposition) -> None:
    async with connect(Echo) as socket:
        await swept()
        supervisor.current()._counting.due_at = math.inf
        before = told.samples()
        for number in range(5):
            await ask(socket, number)
        assert told.samples() == before
        await swept()
        assert (told("messages_total", direction="received"), told("messages_total", direction="sent")) == (5, 5)


async def test_what_ended_sockets_have_said_is_counted_once(told: Exposition) -> None:
    for _ in range(2):
        async with connect(Echo) as socket:
            await ask(socket, 1)
            await swept()
            await ask(socket, 2)
    await calm()
    assert (told("messages_total", direction="received"), told("messages_total", direction="sent")) == (4, 4)


# Decisions -----------------------------------------------------------------------------------------------------------


async def test_a_refused_handshake_is_counted_with_its_reason_and_close_code(told: Exposition) -> None:
    await connect(Echo, origin="https://evil.example").shake_hands()
    assert told("rejections_total", reason="origin_not_allowed", close_code="4403") == 1
    assert told("handshakes_total", result="refused") == 1
    assert sum(value for (name, _), value in told.samples().items() if name == "auth_attempts_total") == 0


@pytest.mark.parametrize(
    ("offered", "method"),
    [
        ({"path": "/ws/?ticket=nobody-ever-gave-this-one-out"}, "ticket"),
        ({"subprotocols": ["channels-secure.v1", "channels-secure.ticket.nobody-ever-gave-this-one-out"]}, "ticket"),
        ({"token": "not.a.token"}, "jwt"),
        ({"cookies": {"sessionid": "nobodyhasthissession0000000000ab"}}, "session"),
    ],
)
async def test_a_failed_credential_is_counted_by_what_was_offered(
    told: Exposition, offered: dict[str, Any], method: str
) -> None:
    class Members(Echo):
        allow_anonymous = False

    await connect(Members, **offered).shake_hands()
    assert told("auth_attempts_total", method=method, result="failed") == 1
    assert told("handshakes_total", result="refused") == 1


async def test_refused_messages_are_counted_though_a_flood_of_them_is_summed_up(
    told: Exposition, settings: Any
) -> None:
    settings.CHANNELS_SECURE = {"MESSAGE_RATES": {"connection": "2/m"}, "ERROR_BUDGET": None}
    async with connect(Echo) as socket:
        for _ in range(40):
            await socket.send_text("1")
        await until(lambda: next(iter(registry())).received == 40)
        await swept()
    await calm()
    assert told("messages_refused_total", reason="rate_limited") == 38
    assert told("messages_total", direction="received") == 40


async def test_what_report_mode_lets_pass_is_counted(told: Exposition, settings: Any) -> None:
    settings.CHANNELS_SECURE = {"MODE": "report"}
    async with connect(Echo, origin="https://evil.example"):
        pass
    assert told("would_deny_total", reason="origin_not_allowed") == 1
    assert told("handshakes_total", result="accepted") == 1


# Labels --------------------------------------------------------------------------------------------------------------


async def test_a_flood_of_unknown_words_makes_no_series(told: Exposition) -> None:
    before = set(told.samples())
    for number in range(2_000):
        audit.record(f"kind.{number}", f"reason {number}", ip=f"192.0.2.{number % 250}")
        audit.record("message.denied", f"reason {number}", user=None)
    audit.tell()
    assert set(told.samples()) == before
    assert told("audit_events_total", kind="other") == 2_000
    assert told("messages_refused_total", reason="other") == 2_000


class Badge:
    """An authenticator of a project's own."""

    async def authenticate(self, handshake: Handshake) -> Identity:
        return Identity(user=User(pk=7, username="alice"), kind="badge of alice")


async def test_a_projects_own_credential_counts_as_other(told: Exposition, settings: Any) -> None:
    settings.CHANNELS_SECURE = {"AUTHENTICATORS": ["tests.test_metrics.Badge"]}
    before = set(told.samples())
    async with connect(Echo):
        await swept()
        assert told("connections", auth="other") == 1
        assert told("auth_attempts_total", method="other", result="accepted") == 1
    assert set(told.samples()) == before


async def test_several_credentials_count_as_the_first_of_them(told: Exposition, user: User) -> None:
    async with connect(Echo, user=user, token=token_for(user)):
        assert told("auth_attempts_total", method="session", result="accepted") == 1


async def test_no_label_holds_a_user_an_address_or_a_path(told: Exposition, user: User) -> None:
    async with connect(Echo, "/ws/secret-room/", user=user, client="203.0.113.77") as socket:
        await ask(socket, 1)
        await swept()
    values = {value for _, labels in told.samples() for _, value in labels}
    assert not {value for value in values if "alice" in value or "secret" in value or "203.0" in value}


# Standing ------------------------------------------------------------------------------------------------------------


async def test_a_store_that_is_away_shows(told: Exposition) -> None:
    signals.store_degraded.send_robust(sender=None, store="RedisStore", error="TimeoutError")
    assert told("store_degraded", store="shared") == 1
    signals.store_recovered.send_robust(sender=None, store="RedisStore")
    assert told("store_degraded", store="shared") == 0


async def test_a_database_that_is_away_shows(told: Exposition) -> None:
    counting = Counting(registry())
    counting.tell(database_is_away=True)
    assert told("store_degraded", store="database") == 1
    counting.tell(database_is_away=False)
    assert told("store_degraded", store="database") == 0


async def test_a_trail_that_cannot_be_written_shows(told: Exposition, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise DatabaseError("away")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "store", fail)
        audit.record("handshake.denied", "bad_request")
        await audit.flush()
        Counting(registry()).tell(database_is_away=False)
        assert (told("audit_unwritable"), told("audit_queue_size")) == (1, 1)
    await audit.flush()
    Counting(registry()).tell(database_is_away=False)
    assert (told("audit_unwritable"), told("audit_queue_size")) == (0, 0)


async def test_the_age_and_size_of_the_blocklist_show(told: Exposition, user: User) -> None:
    async with connect(Echo, user=user):
        await swept()
        assert 0 < told("policy_age_seconds") < 60
        assert told("blocked_users") == 0


# Trouble -------------------------------------------------------------------------------------------------------------


async def test_trouble_with_a_metric_reaches_no_socket(told: Exposition, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("inc", "set"):
        monkeypatch.setattr(f"prometheus_client.Gauge.{name}", fail)
    monkeypatch.setattr("prometheus_client.Counter.inc", fail)
    monkeypatch.setattr("prometheus_client.Histogram.observe", fail)
    async with connect(Echo) as socket:
        assert await ask(socket, "hello") == "hello"
        await socket.send_text("{")
        assert (await socket.receive_json_from())["code"] == "invalid_message"
        await swept()
    outcome = await connect(Echo, origin="https://evil.example").shake_hands()
    assert outcome.status == 403


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run some code in a project's process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, "DATABASE": "sqlite", "DJANGO_SETTINGS_MODULE": "tests.settings", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_project_without_prometheus_starts_without_metrics() -> None:
    code = """
import sys
sys.modules["prometheus_client"] = None
import django
django.setup()
print("channels_secure.metrics" in sys.modules)
"""
    assert run(code).stdout == "False\n"


def test_a_folder_that_cannot_be_used_keeps_no_project_from_starting(tmp_path: Path) -> None:
    finished = run("import django; django.setup(); print('started')", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "none"))
    assert (finished.stdout, finished.stderr.strip()) == ("started\n", "metrics.unavailable")


# Several processes ---------------------------------------------------------------------------------------------------

WORKER = """
import asyncio, sys
import django
django.setup()
from channels_secure import audit
from tests.sockets import Echo, ask, calm, connect, swept

async def main():
    async with connect(Echo) as one, connect(Echo):
        await ask(one, "hello")
        await swept()
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    await calm()
    print("closed", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


def say(worker: subprocess.Popen[str], *, expect: str) -> None:
    """Let a worker go on, and wait for its next word."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    assert worker.stdout.readline().strip() == expect


def test_several_processes_are_one_exposition(tmp_path: Path, transactional_db: None) -> None:
    environ = {**environment({}, {}), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER],
            cwd=ROOT,
            env=environ,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together, path=str(tmp_path))  # type: ignore[no-untyped-call]
    told = Exposition(together)
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline().strip() == "open"
        assert told("connections", auth="anonymous") == 4
        assert (told("messages_total", direction="received"), told("messages_total", direction="sent")) == (2, 2)
        assert told("handshakes_total", result="accepted") == 4
        say(workers[0], expect="closed")
        assert told("connections", auth="anonymous") == 2
        workers[1].kill()
        workers[1].wait(10)
        # What the servers' hook does for a worker that has died.
        multiprocess.mark_process_dead(workers[1].pid, path=str(tmp_path))  # type: ignore[no-untyped-call]
        assert told("connections", auth="anonymous") == 0
        assert told("handshakes_total", result="accepted") == 4
        assert told("rejections_total", reason="blocked", close_code=str(RULES["blocked"].close)) == 0  # type: ignore[index]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
