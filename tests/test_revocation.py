"""Tokens that count no more: the rows, what processes know of them, and what becomes of sockets and handshakes."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection, transaction
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from channels_secure import blocklist, revocation, signals
from channels_secure.auth.base import Identity, digest_of
from channels_secure.blocklist import in_force
from channels_secure.blocklist.revoked import NOTHING, Look, Row, build
from channels_secure.connections import Registry, adisconnect, registry
from channels_secure.models import RECHECK, AuditEvent, PolicyVersion, Revocation, policy_change
from channels_secure.revocation import rows as revocation_rows
from channels_secure.supervisor import finding
from tests.auth.tokens import MISSING, sign, token_for
from tests.conftest import MakeUser
from tests.sockets import Echo, ask, connect, quiet, rows, swept, told, until  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True)]

NOW = 1_800_000_000.0
MINUTE, DAY = 60.0, 86400.0


@contextmanager
def unannounced() -> Iterator[None]:
    """What is committed meanwhile reaches nobody here by itself, as if another process had done it."""
    receivers, signals.policy_changed.receivers = signals.policy_changed.receivers, []
    signals.policy_changed.sender_receivers_cache.clear()
    try:
        yield
    finally:
        signals.policy_changed.receivers = receivers
        signals.policy_changed.sender_receivers_cache.clear()


def in_thread(act: Callable[[], Any]) -> Any:
    """Run what a view would, on a database connection of its own."""

    def run() -> Any:
        try:
            return act()
        finally:
            connection.close()

    return asyncio.to_thread(run)


@pytest.fixture
def brisk(settings: Any) -> None:
    settings.CHANNELS_SECURE = {"POLICY_REFRESH_INTERVAL": 0.02, "AUDIT_FLUSH_INTERVAL": 0.02}


def lasts(row: Revocation) -> float:
    return (row.expires_at - timezone.now()).total_seconds()


def jwt_identity(user: User, **facts: Any) -> Identity:
    return Identity(**{"user": user, "kind": "jwt", "jti": "j", "issued_at": time.time() - 1, **facts})


# Rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, lambda token: token], ids=["text", "object"])
def test_a_token_is_revoked_until_it_has_expired(form: Callable[[Any], Any], user: User, make_user: MakeUser) -> None:
    bob = make_user("bob")
    token = AccessToken.for_user(user)
    token.set_exp(lifetime=timedelta(hours=2))
    revocation.revoke_token(form(token), by=bob)
    row = Revocation.objects.get()
    assert (row.kind, row.subject, row.reason, row.actor) == ("jti", token["jti"], "credentials_revoked", "bob")
    assert lasts(row) == pytest.approx(7200, abs=30)
    event = AuditEvent.objects.get()
    assert (event.kind, event.user, event.actor, event.detail) == ("tokens.revoked", user, "bob", {"jti": token["jti"]})


def test_a_token_that_has_expired_can_be_revoked_for_the_sockets_it_opened(user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = {"REVALIDATE_GRACE": 10}
    revocation.revoke_token(token_for(user, exp=int(time.time()) - 60, jti="old"), by="script")
    row = Revocation.objects.get()
    assert (row.subject, row.actor) == ("old", "script")
    assert lasts(row) == pytest.approx(10 + revocation_rows.RELOADS, abs=30)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "a.b.c",
        "a" * 9000,
        None,
        5,
        b"bytes",
        lambda user: str(RefreshToken.for_user(user)),
        RefreshToken.for_user,
        lambda user: sign({"token_type": "access", "exp": 1e9, "jti": "x", "user_id": "1"}, key="x" * 40),
        lambda user: token_for(user, jti=7),
        lambda user: token_for(user, exp=1e30),
        lambda user: token_for(user)[:-2],
    ],
    ids=repr,
)
def test_what_is_not_an_access_token_of_ours_is_a_value_error(token: Any, user: User) -> None:
    given = token(user) if callable(token) else token
    with pytest.raises(ValueError, match=r"\w") as caught:
        revocation.revoke_token(given)
    assert not isinstance(given, str) or len(given) < 20 or given not in str(caught.value)
    assert not Revocation.objects.exists()
    assert not AuditEvent.objects.exists()


def test_a_token_of_the_far_future_does_not_overflow(user: User) -> None:
    revocation.revoke_token(token_for(user, exp=253402300799))
    assert lasts(Revocation.objects.get()) > 90 * 365 * DAY


def test_a_token_of_somebody_deleted_can_be_revoked(user: User) -> None:
    token = str(AccessToken.for_user(user))
    user.delete()
    revocation.revoke_token(token)
    assert AuditEvent.objects.get(kind="tokens.revoked").user is None


def test_all_tokens_of_a_user_are_revoked_for_as_long_as_one_could_live(user: User, settings: Any) -> None:
    settings.SIMPLE_JWT = {"REFRESH_TOKEN_LIFETIME": timedelta(days=3), "ACCESS_TOKEN_LIFETIME": timedelta(days=2)}
    revocation.revoke_user_tokens(user.pk, by="cron")
    row = Revocation.objects.get()
    assert (row.kind, row.subject, row.reason) == ("user", str(user.pk), "credentials_revoked")
    assert lasts(row) == pytest.approx(3 * DAY, abs=30)
    event = AuditEvent.objects.get()
    assert (event.kind, event.user, event.actor) == ("tokens.revoked", user, "cron")
    assert event.detail == {"tokens": "all", "refresh_tokens": 0}


@pytest.mark.parametrize("user_like", [None, 10**9, "nobody", AnonymousUser(), User(username="x"), [1]], ids=repr)
def test_tokens_of_nobody_are_a_value_error(user_like: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        revocation.revoke_user_tokens(user_like)
    assert not Revocation.objects.exists()


@pytest.mark.parametrize("jti", ["", None, 5, "x" * 256, "a\x00b"], ids=repr)
def test_what_cannot_be_an_identifier_is_a_value_error(jti: Any) -> None:
    with pytest.raises(ValueError, match="identifier"):
        revocation.revoke_jti(jti)


def test_revoking_and_its_audit_row_are_one_transaction(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("odd")

    before = PolicyVersion.current("default")
    monkeypatch.setattr("channels_secure.audit.write", fail)
    for revoke in (lambda: revocation.revoke_user_tokens(user), lambda: revocation.revoke_jti("x")):
        with pytest.raises(RuntimeError, match="odd"):
            revoke()
    assert not Revocation.objects.exists()
    assert PolicyVersion.current("default") == before


def test_what_is_rolled_back_was_never_revoked(user: User) -> None:
    with transaction.atomic():
        revocation.revoke_user_tokens(user)
        transaction.set_rollback(True)
    assert not Revocation.objects.exists()


def test_expired_rows_are_deleted_in_small_batches_and_others_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_rows, "BATCH", 3)
    now = timezone.now()
    for number in range(10):
        Revocation.objects.create(kind="jti", subject=str(number), reason="x", expires_at=now - timedelta(seconds=1))
    kept = Revocation.objects.create(kind="jti", subject="kept", reason="x", expires_at=now + timedelta(hours=1))
    assert revocation.delete_expired() == 10
    assert list(Revocation.objects.all()) == [kept]
    assert revocation.delete_expired() == 0


def test_one_call_deletes_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_rows, "BATCH", 2)
    monkeypatch.setattr(revocation_rows, "MOST_BATCHES", 2)
    end = timezone.now() - timedelta(seconds=1)
    Revocation.objects.bulk_create(
        [Revocation(kind="jti", subject=str(number), reason="x", expires_at=end) for number in range(5)]
    )
    assert [revocation.delete_expired(), revocation.delete_expired()] == [4, 1]


# What memory makes of them ------------------------------------------------------------------------------------------


def row(key: int, kind: str, subject: str, reason: str, *, at: float = NOW) -> Row:
    return (key, kind, subject, reason, datetime.fromtimestamp(at, UTC))


LOOK = Look(ended=100.0, known_at=90.0, offset=NOW - 95.0)


def test_each_kind_of_credential_is_refused_by_its_own_rows() -> None:
    alice = User(pk=7, username="alice")
    found = build(
        [
            row(1, "jti", "j", "credentials_revoked"),
            row(2, "session", digest_of("ended"), "session_ended"),
            row(3, "user", "7", "credentials_revoked"),
            row(4, "session", digest_of("kicked"), "disconnected"),
            row(5, "user", "8", RECHECK),
        ],
        NOTHING,
        LOOK,
    )

    def refused(**facts: Any) -> bool:
        return found.refuses(Identity(**{"user": alice, "kind": "x", **facts}))

    assert refused(jti="j")
    assert not refused(jti="k")
    assert refused(session_key="ended")
    assert not refused(session_key="kicked")
    assert refused(issued_at=NOW)
    assert not refused(issued_at=NOW + 0.001)
    assert not refused(issued_at=None)
    assert not refused(user=User(pk=8), issued_at=0.0)
    assert not refused(user=AnonymousUser(), issued_at=0.0)


def test_of_several_rows_for_a_user_the_latest_counts() -> None:
    moments = [NOW, NOW + 50, NOW - 50]
    found = build([row(n, "user", "7", "credentials_revoked", at=at) for n, at in enumerate(moments)], NOTHING, LOOK)
    assert found.refuses(Identity(user=User(pk=7), kind="jwt", issued_at=NOW + 49))


@pytest.mark.parametrize(
    ("made_at", "until"),
    [
        # The monotonic clock shows 95 at Unix time NOW. Rows were looked for at 90 and read at 100.
        (0.0, 100.0),
        (-1.0, 99.0),
        (-4.9, 95.1),
        (-30.0, 90.0),
        (+30.0, 100.0),
    ],
    ids=["now", "a second ago", "five seconds ago", "by a slow clock", "by a fast clock"],
)
def test_sockets_opened_after_a_change_was_known_are_not_concerned(made_at: float, until: float) -> None:
    found = build([row(1, "user", "7", "disconnected", at=NOW + made_at)], NOTHING, LOOK)
    assert found.changes[1].until == pytest.approx(until)


def test_what_is_known_stays_as_it_was_first_seen_unless_sql_changes_it() -> None:
    first = build([row(1, "user", "7", "disconnected"), row(2, "user", "8", "disconnected")], NOTHING, LOOK)
    later = Look(ended=200.0, known_at=190.0, offset=LOOK.offset)
    second = build([row(2, "user", "9", "disconnected"), row(1, "user", "7", "disconnected")], first, later)
    assert second.changes[1] is first.changes[1]
    assert [change.subject for change in second.since(first)] == ["9"]
    assert second.since(second) == []
    assert [change.id for change in second.since(None)] == [1, 2]


def test_rows_of_addresses_that_are_none_concern_nobody() -> None:
    found = build([row(1, "address", "nonsense", "disconnected")], NOTHING, LOOK)
    assert list(found.networks.matches(IPv4Address("192.0.2.1"))) == []


# The bound ------------------------------------------------------------------------------------------------------------


def fill(count: int, prefix: str = "filler") -> None:
    end = timezone.now() + timedelta(hours=1)
    with policy_change():
        Revocation.objects.bulk_create(
            [
                Revocation(kind="jti", subject=f"{prefix}{n}", reason="credentials_revoked", expires_at=end)
                for n in range(count)
            ]
        )


async def test_a_hundred_thousand_rows_cost_ten_thousand_places_and_lose_nothing(user: User) -> None:
    """More revocations than fit: memory keeps the newest, a handshake with an older token asks the database."""
    await revocation.arevoke_jti("the first")
    await sync_to_async(fill)(100_000)
    await blocklist.refresh()
    snapshot = blocklist.current()
    assert snapshot is not None
    assert snapshot.revoked.is_partial
    assert len(snapshot.revoked.changes) == in_force.MOST_REVOCATIONS
    assert not snapshot.revoked.refuses(jwt_identity(user, jti="the first"))
    assert await revocation.is_revoked(jwt_identity(user, jti="the first"))
    assert await revocation.is_revoked(jwt_identity(user, jti="filler99999"))
    assert not await revocation.is_revoked(jwt_identity(user, jti="good"))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_force, "MOST_REVOCATIONS", 5)


@pytest.mark.usefixtures("few")
async def test_a_burst_of_more_than_fit_reaches_the_open_sockets_all_the_same(user: User) -> None:
    await sync_to_async(fill)(6, "before")
    await blocklist.refresh()
    with unannounced():
        await revocation.arevoke_user_tokens(user)
        await sync_to_async(fill)(9, "after")
    earlier = blocklist.current()
    await blocklist.refresh()
    snapshot = blocklist.current()
    assert earlier is not None
    assert snapshot is not None
    fresh = snapshot.revoked.since(earlier.revoked)
    assert (fresh[0].kind, len(fresh)) == ("user", 10)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", ["jti", "user", "session"])
async def test_beyond_the_bound_every_kind_of_credential_is_looked_up(user: User, kind: str) -> None:
    subject = {"jti": "j", "user": str(user.pk), "session": digest_of("key")}[kind]
    reason = "session_ended" if kind == "session" else "credentials_revoked"
    end = timezone.now() + timedelta(hours=1)
    await Revocation.objects.acreate(kind=kind, subject=subject, reason=reason, expires_at=end)
    await sync_to_async(fill)(6)
    await blocklist.refresh()
    assert await revocation.is_revoked(jwt_identity(user, session_key="key"))
    await Revocation.objects.filter(subject=subject).adelete()
    assert not await revocation.is_revoked(jwt_identity(user, session_key="key"))


# Sockets and handshakes ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
async def test_a_revoked_token_ends_its_sockets_and_opens_no_more(user: User) -> None:
    token, other = AccessToken.for_user(user), AccessToken.for_user(user)
    first, second = connect(Echo, token=str(token), origin=None), connect(Echo, token=str(token), origin=None)
    bystanders = [connect(Echo, token=str(other), origin=None), connect(Echo, user=user), connect(Echo)]
    for socket in (first, second, *bystanders):
        assert (await socket.shake_hands()).accepted
    await revocation.arevoke_token(str(token))
    for socket in (first, second):
        assert await told(socket) == ("credentials_revoked", 4401)
    refused = await connect(Echo, token=str(token), origin=None).shake_hands()
    assert (refused.status, refused.error["code"]) == (401, "invalid_credentials")
    for socket in bystanders:
        assert await ask(socket, "here") == "here"
        await socket.disconnect()
    (failed,) = await rows(kind="credentials.failed")
    assert failed.detail["detail"] == "revoked (header)"


@pytest.mark.usefixtures("quiet")
async def test_a_user_s_tokens_end_and_later_ones_and_sessions_do_not(user: User, make_user: MakeUser) -> None:
    await blocklist.refresh()
    bob = await in_thread(lambda: make_user("bob"))
    doomed = connect(Echo, token=token_for(user), origin=None)
    bystanders = [connect(Echo, user=user), connect(Echo, token=token_for(bob), origin=None)]
    for socket in (doomed, *bystanders):
        assert (await socket.shake_hands()).accepted
    await revocation.arevoke_user_tokens(user)
    assert await told(doomed) == ("credentials_revoked", 4401)
    early = token_for(user, iat=int(time.time()) - 5)
    assert (await connect(Echo, token=early, origin=None).shake_hands()).status == 401
    # One that does not say when it was issued counts as older.
    assert (await connect(Echo, token=token_for(user, iat=MISSING), origin=None).shake_hands()).status == 401
    # PyJWT refuses a token of the future, so that the row is what has to move.
    await Revocation.objects.aupdate(not_before=timezone.now() - timedelta(seconds=10))
    later = connect(Echo, token=token_for(user), origin=None)
    await blocklist.refresh(full=True)
    assert (await later.shake_hands()).accepted
    for socket in (later, *bystanders):
        assert await ask(socket, "here") == "here"
        await socket.disconnect()


@pytest.mark.usefixtures("quiet")
async def test_the_refusal_says_no_more_than_any_other(user: User) -> None:
    token = token_for(user)
    await revocation.arevoke_token(token)
    revoked = await connect(Echo, token=token, origin=None).shake_hands()
    forged = await connect(Echo, token=token[:-4] + "AAAA", origin=None).shake_hands()
    assert (revoked.status, revoked.error, revoked.headers) == (forged.status, forged.error, forged.headers)


@pytest.mark.usefixtures("quiet", "brisk")
async def test_what_another_process_revokes_is_found_by_looking(user: User) -> None:
    socket = connect(Echo, token=token_for(user), origin=None)
    assert (await socket.shake_hands()).accepted
    with unannounced():
        await revocation.arevoke_user_tokens(user)
        assert await told(socket) == ("credentials_revoked", 4401)


@pytest.mark.usefixtures("quiet", "brisk")
@pytest.mark.parametrize("how", ["insert", "update"])
async def test_what_sql_writes_is_found_by_the_full_reload(
    user: User, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from channels_secure.supervisor import supervisor as internals

    end = timezone.now() + timedelta(hours=1)
    facts: dict[str, Any] = {"kind": "user", "reason": "disconnected", "expires_at": end}
    await Revocation.objects.acreate(subject="0", **facts)
    socket, other = connect(Echo, user=user), connect(Echo)
    for one in (socket, other):
        assert (await one.shake_hands()).accepted
    if how == "insert":
        await Revocation.objects.acreate(subject=str(user.pk), **facts)
    else:
        await Revocation.objects.aupdate(subject=str(user.pk), not_before=timezone.now())
    monkeypatch.setattr(internals, "FULL_RELOAD_INTERVAL", 0.05)
    assert await told(socket) == ("disconnected", 4440)
    assert await ask(other, 1) == 1
    await other.disconnect()


@pytest.mark.usefixtures("quiet", "brisk")
async def test_a_row_is_applied_once_however_often_rows_are_read(user: User) -> None:
    """A client that comes back is not cut again and again while the row lasts."""
    await blocklist.refresh()
    with unannounced():
        await adisconnect(user=user)
        await blocklist.refresh()
    known = blocklist.current()
    assert known is not None
    async with connect(Echo, user=user) as socket:
        for _ in range(3):
            await blocklist.refresh(full=True)
        assert blocklist.current() is not known
        assert await ask(socket, 1) == 1
        assert len(registry()) == 1


@pytest.mark.usefixtures("quiet")
async def test_a_revocation_does_not_look_for_blocked_sockets_again(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ten thousand sockets that costs more than the revocation itself."""
    looked, real = [], finding.by_address

    def counted(connections: Registry) -> Any:
        looked.append(len(connections))
        return real(connections)

    monkeypatch.setattr(finding, "by_address", counted)
    async with connect(Echo) as other:
        await swept()
        await blocklist.ablock(network="203.0.113.0/24")
        await until(lambda: len(looked) == 1)
        await adisconnect(user=user)
        await until(lambda: bool(blocklist.current().revoked.changes))  # type: ignore[union-attr]
        await swept()
        assert len(looked) == 1
        await blocklist.ablock(network="203.0.112.0/24")
        await until(lambda: len(looked) == 2)
        assert await ask(other, 1) == 1
