"""A real database that is stopped, paused, locked and started again under real servers, as failure-modes.md says."""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.own_postgresql import OwnPostgreSQL, own_postgresql
from tests.live.servers import KINDS, LiveServer, RawSocket, Response, ServerKind, ServerPool

pytestmark = pytest.mark.live

SETTINGS = {
    "REVALIDATE_INTERVAL": 1,
    "REVALIDATE_GRACE": 3,
    "SNAPSHOT_MAX_STALE": 2,
    "POLICY_REFRESH_INTERVAL": 0.2,
    "AUDIT_FLUSH_INTERVAL": 0.1,
    "HANDSHAKE_TIMEOUT": 2,
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "ALLOWED_ORIGINS": ["https://example.com"],
    "REJECTION": "http",
    "TRUSTED_PROXIES": [],
}
PATIENT = {**SETTINGS, "REVALIDATE_GRACE": 60, "SNAPSHOT_MAX_STALE": 60}
ORIGIN = "https://example.com"
# What a refusal looks like on a server that can send an HTTP response, and on Daphne.
STATUS = {"uvicorn": 503, "daphne": 403}
# A loaded machine's seconds.
SLACK = 20.0

PEOPLE = """
import json
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from rest_framework_simplejwt.tokens import AccessToken

user = User.objects.create_user({name!r})
keys = []
for _ in range(2):
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    keys.append(session.session_key)
print(json.dumps({{"pk": user.pk, "keys": keys, "token": str(AccessToken.for_user(user))}}))
"""


@pytest.fixture(scope="module")
def database() -> Iterator[OwnPostgreSQL]:
    with own_postgresql() as server:
        yield server


@pytest.fixture(params=KINDS)
def serve(
    request: pytest.FixtureRequest, tmp_path: Path, database: OwnPostgreSQL
) -> Iterator[Callable[..., LiveServer]]:
    """Start each server on the module's database, which runs again afterwards."""
    kind: ServerKind = request.param
    with ServerPool(tmp_path) as pool:
        yield lambda settings: pool.start(kind, settings=settings, environ=database.environ)
        if database.process is None:
            database.start()
        database.resume()


@pytest.fixture
def alice(database: OwnPostgreSQL, request: pytest.FixtureRequest) -> dict[str, Any]:
    people: dict[str, Any] = json.loads(database.run(PEOPLE.format(name=request.node.name[:100])))
    return people


class Open:
    """The sockets of a test: of a session, of a token, and of nobody."""

    def __init__(self, server: LiveServer, alice: dict[str, Any]) -> None:
        self.server, self.alice = server, alice
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> "Open":
        self.session = self.stack.enter_context(self.server.websocket("/echo/", **self.with_session()))
        self.token = self.stack.enter_context(self.server.websocket("/echo/", **self.with_token()))
        self.nobody = self.stack.enter_context(self.server.websocket("/echo/", origin=ORIGIN))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def with_session(self, number: int = 0) -> dict[str, Any]:
        cookie = f"sessionid={self.alice['keys'][number]}".encode()
        return {"origin": ORIGIN, "headers": [(b"Cookie", cookie)]}

    def with_token(self) -> dict[str, Any]:
        return {"headers": [(b"Authorization", f"Bearer {self.alice['token']}".encode())]}

    @property
    def all(self) -> list[RawSocket]:
        return [self.session, self.token, self.nobody]

    def answer(self, *, within: float = 2.0) -> None:
        """Every socket is answered, soon: nothing waits for the database on the loop."""
        for raw in self.all:
            raw.send_text('"are you there"')
            assert raw.read_json(timeout=within) == "are you there"

    def attempt(self, **handshake: Any) -> Response:
        with self.server.connect() as raw:
            return raw.handshake("/echo/", **handshake)


def assert_unavailable(response: Response, kind: str, code: str = "unavailable") -> None:
    assert response.status == STATUS[kind], response
    if kind == "uvicorn":
        assert response.json()["code"] == code


def audited(database: OwnPostgreSQL, kind: str) -> list[Any]:
    return database.execute("SELECT detail FROM channels_secure_auditevent WHERE kind = %s", kind)


def wait_for(server: LiveServer, condition: Callable[[], Any]) -> Any:
    """What a condition answers, as soon as that is something; asked again and again while the server lives."""
    deadline = time.monotonic() + SLACK
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=0.05)
    return found


def closed_with(raw: RawSocket, timeout: float) -> Any:
    """The code of the fatal error frame, past what was said before it."""
    closing = raw.read_until_closed(timeout=timeout)
    (last,) = [frame for frame in closing.json_frames() if isinstance(frame, dict)]
    return last["code"], closing.code


def test_stopped_for_long_it_costs_handshakes_first_and_open_sockets_at_last(
    serve: Callable[..., LiveServer], database: OwnPostgreSQL, alice: dict[str, Any]
) -> None:
    server = serve(SETTINGS)
    before = len(audited(database, "store.degraded")), len(audited(database, "store.recovered"))
    with Open(server, alice) as sockets:
        sockets.answer()
        database.stop()
        began = time.monotonic()
        # Who has to be looked up cannot be let in; who is nobody passes on the blocks last known.
        assert_unavailable(sockets.attempt(**sockets.with_session()), server.kind)
        assert_unavailable(sockets.attempt(**sockets.with_token()), server.kind)
        assert sockets.attempt(origin=ORIGIN).status == 101
        sockets.answer()
        refused = wait_for(server, lambda: _refusal(sockets))
        assert time.monotonic() - began > SETTINGS["SNAPSHOT_MAX_STALE"] - 1
        assert_unavailable(refused, server.kind)
        if time.monotonic() - began < 2.8:
            sockets.answer()
        for raw in sockets.all:
            assert closed_with(raw, 6 + SLACK) == ("unavailable", 4503)
        assert time.monotonic() - began > 2.5
        database.start()
        assert wait_for(server, lambda: sockets.attempt(**sockets.with_session()).status == 101)
        assert wait_for(server, lambda: sockets.attempt(origin=ORIGIN).status == 101)
        with Open(server, alice) as again:
            again.answer()
            wait_for(server, lambda: len(audited(database, "store.recovered")) == before[1] + 1)
    degraded = audited(database, "store.degraded")
    assert len(degraded) == before[0] + 1
    assert degraded[-1] == ({"store": "database"},)
    assert server.log().count("policy.refresh_failed") == 1


def _refusal(sockets: Open) -> Response | None:
    response = sockets.attempt(origin=ORIGIN)
    return None if response.status == 101 else response


def test_restarted_in_time_it_costs_nobody_a_socket_and_changes_are_found(
    serve: Callable[..., LiveServer], database: OwnPostgreSQL, alice: dict[str, Any]
) -> None:
    server = serve(PATIENT)
    with Open(server, alice) as sockets:
        with server.websocket("/echo/", **sockets.with_session(1)) as other:
            database.stop()
            wait_for(server, lambda: "policy.refresh_failed" in server.log())
            sockets.answer()
            database.start()
            database.execute("DELETE FROM django_session WHERE session_key = %s", alice["keys"][1])
            assert closed_with(other, SLACK) == ("session_ended", 4401)
        sockets.answer()
        database.run(
            "from channels_secure.blocklist import block\nfrom django.contrib.auth.models import User\n"
            f"block(user=User.objects.get(pk={alice['pk']}))"
        )
        assert closed_with(sockets.session, SLACK) == ("blocked", 4423)
        assert closed_with(sockets.token, SLACK) == ("blocked", 4423)
        sockets.nobody.send_text("1")
        assert sockets.nobody.read_json() == 1


def test_paused_it_stalls_no_open_socket_and_goes_on_where_it_was(
    serve: Callable[..., LiveServer], database: OwnPostgreSQL, alice: dict[str, Any]
) -> None:
    server = serve(PATIENT)
    with Open(server, alice) as sockets:
        sockets.answer()
        database.pause()
        # Who has to be looked up waits until the handshake's deadline; who is nobody waits a moment for the blocks.
        assert_unavailable(sockets.attempt(**sockets.with_session()), server.kind, "handshake_timeout")
        sockets.answer()
        assert sockets.attempt(origin=ORIGIN).status == 101
        sockets.answer()
        database.resume()
        assert wait_for(server, lambda: sockets.attempt(**sockets.with_session()).status == 101)
        database.execute("UPDATE auth_user SET is_active = false WHERE id = %s", alice["pk"])
        assert closed_with(sockets.session, SLACK) == ("session_ended", 4401)
        assert closed_with(sockets.token, SLACK) == ("session_ended", 4401)
        sockets.nobody.send_text("1")
        assert sockets.nobody.read_json() == 1


def test_paused_for_long_it_is_as_good_as_stopped(
    serve: Callable[..., LiveServer], database: OwnPostgreSQL, alice: dict[str, Any]
) -> None:
    server = serve(SETTINGS)
    with Open(server, alice) as sockets:
        sockets.answer()
        database.pause()
        began = time.monotonic()
        for raw in sockets.all:
            # Five seconds until a look without an answer counts as none, the grace, and its spread.
            assert closed_with(raw, 11 + SLACK) == ("unavailable", 4503)
        assert time.monotonic() - began > 5
        assert_unavailable(sockets.attempt(origin=ORIGIN), server.kind)
        database.resume()
        assert wait_for(server, lambda: sockets.attempt(**sockets.with_session()).status == 101)


def test_locked_tables_hold_up_only_who_needs_them(
    serve: Callable[..., LiveServer], database: OwnPostgreSQL, alice: dict[str, Any]
) -> None:
    server = serve(PATIENT)
    with Open(server, alice) as sockets:
        sockets.answer()
        with database.connect() as holder, holder.transaction():
            holder.execute("LOCK TABLE auth_user, django_session IN ACCESS EXCLUSIVE MODE")
            holder.execute("DELETE FROM django_session WHERE session_key = %s", (alice["keys"][0],))
            assert_unavailable(sockets.attempt(**sockets.with_session(1)), server.kind, "handshake_timeout")
            sockets.answer()
            assert sockets.attempt(origin=ORIGIN).status == 101
            sockets.answer()
        assert closed_with(sockets.session, SLACK) == ("session_ended", 4401)
        assert sockets.attempt(**sockets.with_session(1)).status == 101
        sockets.token.send_text("1")
        assert sockets.token.read_json() == 1
