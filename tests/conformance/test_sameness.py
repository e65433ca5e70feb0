"""Row 32: what is wrong with a credential shows neither in the answer nor in the work that it takes."""

import hmac
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import override_settings
from rest_framework_simplejwt.utils import get_md5_hash_password

from channels_secure import database
from channels_secure.testing import Outcome
from tests.conformance import drive
from tests.conformance.handshakes import bearer
from tests.conformance.table import Request
from tests.conformance.test_faults import row, settings
from tests.conformance.world import World

pytestmark = pytest.mark.django_db(transaction=True)
REVOCATION = {"SIMPLE_JWT": {"CHECK_REVOKE_TOKEN": True}}


def change_password(world: World) -> None:
    world.bob.set_password("another horse")
    world.bob.save()


def signed(world: World, user: Any, **claims: Any) -> Request:
    """A request with a token that simplejwt made while the user's password was what it is now."""
    claims.setdefault("hash_password", get_md5_hash_password(user.password))
    return Request(path="/typed/", headers=bearer(world.token(user, **claims)))


def unknown(world: World) -> Request:
    return signed(world, world.alice, user_id="999999999")


def inactive(world: World) -> Request:
    return signed(world, world.carol)


def deleted(world: World) -> Request:
    request = signed(world, world.dave)
    world.delete_dave()
    return request


def outdated(world: World) -> Request:
    request = signed(world, world.bob)
    change_password(world)
    return request


def of_session(world: World, user: Any, **values: Any) -> Request:
    return Request(path="/typed/", cookies=world.session(user, **values))


def session_unknown(world: World) -> Request:
    return of_session(world, world.alice, _auth_user_id="999999999")


def session_inactive(world: World) -> Request:
    return of_session(world, world.carol)


def session_deleted(world: World) -> Request:
    request = of_session(world, world.dave)
    world.delete_dave()
    return request


def session_outdated(world: World) -> Request:
    request = of_session(world, world.bob)
    change_password(world)
    return request


class Work:
    """Queries of the package's threads and keyed hashes, counted since `clear`."""

    def __init__(self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        self.caplog, self.hashes = caplog, 0
        caplog.set_level(logging.DEBUG, logger="django.db.backends")
        genuine = hmac.new

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.hashes += 1
            return genuine(*args, **kwargs)

        monkeypatch.setattr(hmac, "new", counted)

    def clear(self) -> None:
        self.caplog.clear()
        self.hashes = 0

    def tables(self) -> Counter[str]:
        """How often each table was read; nothing but reads is expected."""
        asked = [r.getMessage() for r in self.caplog.records if r.name == "django.db.backends"]
        assert not [text for text in asked if "INSERT" in text or "UPDATE" in text or "DELETE" in text], asked
        user = get_user_model()._meta.db_table
        return Counter(name for name in (user, "django_session") for text in asked if f'FROM "{name}"' in text)


@pytest.fixture
def work(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    with override_settings(DEBUG=True):
        yield Work(caplog, monkeypatch)


Maker = Callable[[World], Request]
TOKENS: dict[str, Maker] = {"unknown": unknown, "inactive": inactive, "deleted": deleted, "outdated": outdated}
SESSIONS: dict[str, Maker] = {
    "unknown": session_unknown,
    "inactive": session_inactive,
    "deleted": session_deleted,
    "outdated": session_outdated,
}


async def refusal(make: Maker, work: Work, **more: Any) -> tuple[Outcome, Counter[str], int]:
    """How one of them is refused: what the client sees, the tables that were read and the hashes made for it."""
    world = await database.run(World)
    request = await database.run(make, world)
    peer = drive.communicator(request, **more)
    work.clear()
    outcome = await peer.shake_hands()
    tables, hashes = work.tables(), work.hashes
    await drive.settle()
    await database.run(get_user_model().objects.all().delete)
    return outcome, tables, hashes


async def compare(makers: dict[str, Maker], work: Work, **more: Any) -> None:
    """Every one of them is refused as the unknown user is, after the same reads and at most one hash more or less."""
    found = {name: await refusal(make, work, **more) for name, make in makers.items()}
    first, first_tables, first_hashes = found["unknown"]
    assert not first.accepted
    assert first_tables[get_user_model()._meta.db_table] == 1, "the check below could not fail"
    for outcome, tables, hashes in found.values():
        assert outcome == first
        assert tables == first_tables
        assert abs(hashes - first_hashes) <= 1


@row(
    "same-refusal-token",
    32,
    "tokens of an unknown, an inactive, a deleted user, and from before the password changed (CHECK_REVOKE_TOKEN)",
    "the same answer, byte for byte, after the same queries and hashes; on a socket and over HTTP",
)
@pytest.mark.parametrize("rejection", ["auto", "http"])
async def test_nobody_learns_from_a_token_which_users_there_are(rejection: str, work: Work) -> None:
    with settings(REJECTION=rejection), override_settings(**REVOCATION):
        await compare(TOKENS, work)
        await compare(TOKENS, work, http_response=False)


@row(
    "same-refusal-session",
    32,
    "sessions of an unknown, an inactive, a deleted user, and from before the password changed",
    "the same answer, byte for byte, after the same queries and hashes; on a socket and over HTTP",
)
@pytest.mark.parametrize("rejection", ["auto", "http"])
async def test_nobody_learns_from_a_session_which_users_there_are(rejection: str, work: Work) -> None:
    with settings(REJECTION=rejection):
        await compare(SESSIONS, work)
        await compare(SESSIONS, work, http_response=False)


@row(
    "inactive-any-backend",
    32,
    "a session of an inactive user under AllowAllUsersModelBackend, which finds inactive users",
    "401, as for an unknown user",
)
async def test_an_inactive_user_is_refused_whatever_the_backend_says() -> None:
    backends = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    with settings(), override_settings(AUTHENTICATION_BACKENDS=backends):
        world = await database.run(World)
        for user, accepted in ((world.alice, True), (world.carol, False)):
            request = await database.run(of_session, world, user)
            peer = drive.communicator(request)
            outcome = await peer.shake_hands()
            assert outcome.accepted is accepted
            if accepted:
                await peer.disconnect()
            else:
                assert (outcome.code, outcome.reason) == (4401, "invalid_credentials")
