"""`ws_doctor`: each thing that can be wrong is made so."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from channels_secure.checks import deployment, installation
from channels_secure.management.doctor import databases, layers, store
from channels_secure.models import AuditEvent, LiveConnection, LiveProcess
from channels_secure.supervisor import leases
from tests.services import free_port

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[1]
REDIS_STORE = "channels_secure.stores.redis.RedisStore"
REDIS_LAYER = "channels_redis.core.RedisChannelLayer"


def consult() -> list[str]:
    """What the doctor says, a line each; the exit code is 1 when that is not nothing."""
    out = StringIO()
    try:
        call_command("ws_doctor", stdout=out, no_color=True)
    except CommandError as error:
        said = error
    else:
        assert out.getvalue() == "Nothing is wrong that could be seen from here.\n"
        return []
    lines = out.getvalue().splitlines()
    # A line of advice for each finding.
    assert all(line.startswith("    ") and line.endswith(".") for line in lines[1::2])
    assert said.returncode == 1
    assert str(said) == f"{len(lines) // 2} finding{'s' if len(lines) > 2 else ''}."
    return lines


@pytest.fixture(autouse=True)
def healthy(settings: Any) -> Any:
    """A deployment with which nothing is wrong."""
    settings.CHANNELS_SECURE = {"TRUSTED_PROXIES": []}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    return settings


def serve(*pids: int, host: str = "web1") -> list[LiveProcess]:
    for pid in pids:
        leases.register(f"{host}-{pid}", host=host, pid=pid)
    return list(LiveProcess.objects.order_by("pk"))


def connect(process: LiveProcess, ip: str, count: int = 3, **fields: Any) -> None:
    fields = {"opened_at": timezone.now(), **fields}
    LiveConnection.objects.bulk_create(
        LiveConnection(connection_id=f"{ip}-{number}", process=process, ip=ip, username=f"user{number}", **fields)
        for number in range(count)
    )


def test_a_healthy_deployment_has_no_finding() -> None:
    assert consult() == []


def test_settings_that_are_wrong_are_left_to_the_checks(healthy: Any) -> None:
    healthy.CHANNELS_SECURE = {"NO_SUCH_KEY": 1}
    assert consult() == ["CHANNELS_SECURE is wrong, so that no WebSocket is served.", "    Run `manage.py check`."]


# Versions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version"),
    [("daphne", "4.2.1"), ("granian", "2.7.3"), ("PyJWT", "2.14.0"), ("djangorestframework-simplejwt", "5.5.0")],
)
def test_a_version_with_a_known_vulnerability(name: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {name: version})
    message, advice = consult()
    assert message.startswith(f"{name} {version} is vulnerable (")
    assert advice.startswith("    The first good version is")


def test_a_redis_client_that_ends_idle_consumers(healthy: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    healthy.CHANNEL_LAYERS = {"default": {"BACKEND": REDIS_LAYER, "CONFIG": {"hosts": [redis_url]}}}
    assert consult() == []
    pretend(monkeypatch, {"redis": "8.0.0", "channels_redis": "4.3.0"})
    message, advice = consult()
    assert message.startswith("redis-py 8.0.0 ends every channels_redis consumer")
    assert advice.startswith("    Install redis<8")


def pretend(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    """Other versions than those installed."""
    real: Callable[[str], str] = deployment.metadata.version

    def version(name: str) -> str:
        return versions.get(name) or real(name)

    monkeypatch.setattr(deployment.metadata, "version", version)
    assert installation.metadata is deployment.metadata


# The database --------------------------------------------------------------------------------------------------------


def test_migrations_that_are_not_applied() -> None:
    MigrationRecorder(connection).record_unapplied("channels_secure", "0001_initial")
    message, advice = consult()
    assert message.startswith("Migrations are not applied: 0001_initial")
    assert advice == "    Run `manage.py migrate channels_secure`."


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_that_cannot_be_reached_and_the_exit_code(kind: str, tmp_path: Path) -> None:
    environ = {
        "DATABASE": kind,
        "CHANNELS_SECURE_TEST_DATABASE_NAME": str(tmp_path / "no such folder" / "db") if kind == "sqlite" else "none",
        "CHANNELS_SECURE_TEST_DATABASE_URL": f"postgresql://somebody:secret@127.0.0.1:{free_port()}/none",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    finished = subprocess.run(
        [sys.executable, "-m", "django", "ws_doctor", "--no-color"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    message, advice = finished.stdout.splitlines()
    assert message == "The database 'default' cannot be reached (OperationalError)."
    assert advice.startswith("    Start it, or correct DATABASES")
    assert (finished.returncode, finished.stderr) == (1, "CommandError: 1 finding.\n")


def test_a_database_that_takes_no_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA query_only = 1")
        else:
            cursor.execute("SET LOCAL transaction_read_only = on")
    try:
        message, _ = consult()
    finally:
        if connection.vendor == "sqlite":
            connection.cursor().execute("PRAGMA query_only = 0")
    assert message.startswith("The database 'default' takes no writes (")


def test_looking_leaves_nothing_behind() -> None:
    assert consult() == []
    assert not LiveProcess.objects.exists()


@pytest.mark.parametrize(("shift", "way"), [(3600, "behind"), (-3600, "ahead of")])
def test_a_database_whose_clock_is_another(shift: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = databases.time.time
    monkeypatch.setattr(databases, "time", Clock(lambda: real() + shift))
    message, advice = consult()
    assert message == f"The clock of the database 'default' is 3600 seconds {way} this machine's."
    assert "NTP" in advice


class Clock:
    def __init__(self, time: Callable[[], float]) -> None:
        self.time = time


# Processes -----------------------------------------------------------------------------------------------------------


def test_several_processes_with_nothing_between_them() -> None:
    serve(1, 1001)
    serve(1, host="web2")
    found = consult()
    assert found[0] == "3 processes serve sockets, and each counts rates and connections for itself (MemoryStore)."
    assert found[2].startswith("3 processes serve sockets without a channel layer between them")
    assert len(found) == 4


def test_several_processes_without_any_layer(healthy: Any) -> None:
    healthy.CHANNEL_LAYERS = {}
    serve(1, 2)
    assert "without a channel layer" in consult()[2]


def test_several_processes_that_share_a_server(healthy: Any, redis_url: str) -> None:
    healthy.CHANNELS_SECURE = {"STORE": {"BACKEND": REDIS_STORE, "LOCATION": redis_url, "PREFIX": "doctor:"}}
    healthy.CHANNEL_LAYERS = {"default": {"BACKEND": REDIS_LAYER, "CONFIG": {"hosts": [redis_url]}}}
    serve(1, 2)
    assert consult() == []


def test_two_event_loops_of_one_process_and_a_dead_process_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    leases.register("one", host="web1", pid=1)
    leases.register("another", host="web1", pid=1)
    monkeypatch.setattr(leases, "LEASE", -1.0)
    leases.register("dead", host="web1", pid=2)
    assert consult() == []


def test_a_process_whose_clock_is_ahead() -> None:
    (process,) = serve(1)
    connect(process, "203.0.113.5", 1, opened_at=timezone.now() + timedelta(minutes=1))
    assert consult()[0] == "The clock of web1 is ahead of the database's."


# Proxies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [None, [], ["10.9.0.0/16"]])
@pytest.mark.parametrize("address", ["10.0.0.5", "127.0.0.1", "fd00::5"])
def test_a_proxy_that_is_not_trusted(healthy: Any, trusted: list[str] | None, address: str) -> None:
    healthy.CHANNELS_SECURE = {"TRUSTED_PROXIES": trusted}
    connect(serve(1)[0], address)
    message, advice = consult()
    assert message.startswith(f"All clients have the same private address, {address}:")
    assert advice == f"    Set TRUSTED_PROXIES to ['{address}'], or to its network, and let it send X-Forwarded-For."


def test_a_trusted_proxy_that_does_not_say_who_its_clients_are(healthy: Any) -> None:
    healthy.CHANNELS_SECURE = {"TRUSTED_PROXIES": ["10.0.0.0/8"], "CLIENT_IP_HEADER": "X-Real-IP"}
    connect(serve(1)[0], "10.0.0.5")
    message, advice = consult()
    assert message == "All clients have the address of the trusted proxy 10.0.0.5."
    assert advice.endswith("X-Real-Ip.")


def test_those_who_came_in_the_last_day_count_too() -> None:
    for number in range(3):
        AuditEvent.objects.create(kind="connection.accepted", ip="172.18.0.1", username=f"user{number}")
    assert "172.18.0.1" in consult()[0]
    AuditEvent.objects.update(created_at=timezone.now() - timedelta(days=2))
    assert consult() == []


def test_a_public_address_a_few_users_or_several_addresses_are_no_evidence(healthy: Any) -> None:
    (process,) = serve(1)
    connect(process, "203.0.113.5")
    assert consult() == []
    LiveConnection.objects.all().delete()
    connect(process, "10.0.0.5", 2)
    assert consult() == []
    connect(process, "10.0.0.6")
    assert consult() == []


def test_on_a_developers_machine_everybody_is_local(healthy: Any) -> None:
    healthy.DEBUG = True
    connect(serve(1)[0], "127.0.0.1")
    assert consult() == []


# The store -----------------------------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_reached(healthy: Any) -> None:
    location = f"redis://:secret@127.0.0.1:{free_port()}/0"
    healthy.CHANNELS_SECURE = {"TRUSTED_PROXIES": [], "STORE": {"BACKEND": REDIS_STORE, "LOCATION": location}}
    message, advice = consult()
    assert message == "The store does not answer (ConnectionError)."
    assert advice.startswith("    Start the server, or correct STORE['LOCATION']")


def test_a_store_that_cannot_be_made(healthy: Any) -> None:
    healthy.CHANNELS_SECURE = {"STORE": {"BACKEND": REDIS_STORE}}
    assert consult()[1] == "    Correct CHANNELS_SECURE['STORE']."


def test_a_store_whose_clock_is_another(healthy: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy.CHANNELS_SECURE = {"STORE": {"BACKEND": REDIS_STORE, "LOCATION": redis_url}}
    assert consult() == []
    real = store.time.time
    monkeypatch.setattr(store, "time", Clock(lambda: real() + 60))
    assert consult()[0] == "The clock of the store is 60 seconds behind this machine's."


# Channel layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [REDIS_LAYER, "channels_redis.pubsub.RedisPubSubChannelLayer"])
def test_a_layer_that_works(healthy: Any, backend: str, redis_url: str) -> None:
    healthy.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [redis_url], "prefix": "doctor"}}}
    assert consult() == []


@pytest.mark.parametrize("backend", [REDIS_LAYER, "channels_redis.pubsub.RedisPubSubChannelLayer"])
def test_a_layer_that_cannot_be_reached(healthy: Any, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "PATIENCE", 0.5)
    hosts = [f"redis://:secret@127.0.0.1:{free_port()}/0"]
    healthy.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
        "other": {"BACKEND": backend, "CONFIG": {"hosts": hosts}},
    }
    message, _ = consult()
    assert message.startswith("The channel layer 'other' does not answer (")
    assert "secret" not in message


def test_a_layer_that_cannot_be_made(healthy: Any) -> None:
    healthy.CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.Layer"}}
    assert consult()[0].startswith("The channel layer 'default' cannot be made (")


@pytest.mark.parametrize("backend", ["channels.layers.InMemoryChannelLayer", REDIS_LAYER])
def test_a_layer_that_is_soon_full(healthy: Any, backend: str, redis_url: str) -> None:
    hosts = {"hosts": [redis_url], "prefix": "full"} if backend == REDIS_LAYER else {}
    healthy.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"capacity": 10, **hosts}}}
    message, advice = consult()
    assert message == "The channel layer 'default' is full after 10 messages: a consumer that is busy loses the next."
    assert advice.startswith("    Raise its capacity")


class Leaky(InMemoryChannelLayer):  # type: ignore[misc]  # Channels has no types
    """Loses every tenth message."""

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        if message["number"] % 10:
            await super().send(channel, message)


def test_a_layer_that_loses_messages(healthy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "PATIENCE", 1.0)
    healthy.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.test_doctor.Leaky"}}
    assert consult()[0] == "The channel layer 'default' lost 5 of 50 messages."
