"""A real cache of sessions that is stopped, paused and started again under real servers, as failure-modes.md says."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure.models import AuditEvent
from channels_secure.policy.decisions import RULES, Reason
from channels_secure.testing import log_in
from tests.auth.tokens import token_for
from tests.live.servers import LiveServer, RawSocket, Response, ServerKind
from tests.live.test_presence import until
from tests.services import OwnRedis, own_redis

pytestmark = pytest.mark.django_db(transaction=True)

ORIGIN = "https://chat.example.com"
GRACE = 2.0
SETTINGS = {
    "REVALIDATE_INTERVAL": 1,
    "REVALIDATE_GRACE": GRACE,
    "AUDIT_FLUSH_INTERVAL": 0.1,
    "HANDSHAKE_TIMEOUT": 2,
    "ALLOWED_ORIGINS": [ORIGIN],
    "REJECTION": "http",
    "TRUSTED_PROXIES": [],
}
# A loaded machine's seconds.
SLACK = 20.0


@pytest.fixture
def cache(settings: Any) -> Iterator[OwnRedis]:
    with own_redis() as server:
        settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
        backend = "django.core.cache.backends.redis.RedisCache"
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": server.url}}
        yield server


@pytest.fixture
def live(
    request: pytest.FixtureRequest, server: Callable[..., LiveServer], kind: ServerKind, cache: OwnRedis
) -> LiveServer:
    """A server whose cache has the options that the test asks for."""
    environ = {
        "DJANGO_SETTINGS_MODULE": "tests.live.cached_sessions",
        "CHANNELS_SECURE_TEST_CACHE_URL": cache.url,
        "CHANNELS_SECURE_TEST_CACHE_OPTIONS": json.dumps(request.param),
    }
    return server(kind, settings=SETTINGS, environ=environ)


def with_session(user: User) -> dict[str, Any]:
    return {"origin": ORIGIN, "headers": [(b"Cookie", f"sessionid={log_in(user)}".encode())]}


def with_token(user: User) -> dict[str, Any]:
    return {"headers": [(b"Authorization", f"Bearer {token_for(user)}".encode())]}


def attempt(live: LiveServer, handshake: dict[str, Any]) -> Response:
    with live.connect() as raw:
        return raw.handshake("/echo/", **handshake)


def answer(raw: RawSocket) -> None:
    raw.send_text('"are you there"')
    assert raw.read_json(timeout=2) == "are you there"


def is_refused(live: LiveServer, handshake: dict[str, Any], reason: Reason) -> None:
    response = attempt(live, handshake)
    assert response.status == (403 if live.kind == "daphne" else RULES[reason].status)
    assert live.kind == "daphne" or response.json()["code"] == reason


def given_up(raw: RawSocket) -> None:
    closing = raw.read_until_closed(timeout=SLACK)
    assert (closing.json_frames()[-1]["code"], closing.code) == (Reason.UNAVAILABLE, 4503)


def is_as_before(live: LiveServer, user: User) -> None:
    with live.websocket("/echo/", **with_session(user)) as raw:
        answer(raw)


def audited(*kinds: str) -> bool:
    rows = AuditEvent.objects.filter(kind__startswith="store.").order_by("pk").values_list("kind", "count")
    return list(rows) == [(kind, 1) for kind in kinds]


@pytest.mark.parametrize(
    ("live", "misfortune", "remedy"),
    [({}, "stop", "start"), ({"socket_timeout": 0.5}, "pause", "resume")],
    indirect=["live"],
    ids=["stopped", "paused"],
)
def test_it_concerns_those_who_came_with_a_session_and_nobody_else(
    live: LiveServer, cache: OwnRedis, user: User, misfortune: str, remedy: str
) -> None:
    session, token = with_session(user), with_token(user)
    with ExitStack() as stack:
        of_session, of_token = (stack.enter_context(live.websocket("/echo/", **each)) for each in (session, token))
        answer(of_session)
        began = time.monotonic()
        getattr(cache, misfortune)()
        is_refused(live, session, Reason.INVALID_CREDENTIALS)
        assert attempt(live, token).status == 101
        given_up(of_session)
        assert time.monotonic() - began > GRACE - 0.5
        answer(of_token)
        until(lambda: audited("store.degraded"), "its absence in the trail")
        getattr(cache, remedy)()
        is_as_before(live, user)
        until(lambda: audited("store.degraded", "store.recovered"), "its return in the trail")
        answer(of_token)


@pytest.mark.parametrize("live", [{}], indirect=True, ids=["paused"])
def test_without_a_deadline_of_its_own_it_is_like_a_database_that_is_paused(
    live: LiveServer, cache: OwnRedis, user: User
) -> None:
    session, token = with_session(user), with_token(user)
    with live.websocket("/echo/", **session) as of_session:
        answer(of_session)
        began = time.monotonic()
        cache.pause()
        is_refused(live, session, Reason.HANDSHAKE_TIMEOUT)
        assert attempt(live, token).status == 101
        answer(of_session)
        given_up(of_session)
        # What has not answered for five seconds counts as away.
        assert time.monotonic() - began > 5 + GRACE - 1.5
        cache.resume()
        is_as_before(live, user)
        until(lambda: audited("store.degraded", "store.recovered"), "its absence and return in the trail")
