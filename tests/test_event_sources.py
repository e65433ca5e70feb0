"""Where the events of a connection come from: read once, and read again when its user is another."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure import audit, connections
from channels_secure.auth.base import Identity
from channels_secure.connections import Connection, events, registry
from channels_secure.policy.decisions import Denial, Reason
from tests.sockets import Echo, connect, only_connection, quiet, rows  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]

REFUSED = Denial(reason=Reason.INVALID_MESSAGE)


async def test_many_events_share_one_source(user: User) -> None:
    async with connect(Echo, "/ws/chat/", user=user, headers=[(b"user-agent", b"curl/8")]):
        connection = only_connection()
        source = events.source_of(connection)
        events.message_refused(connection, REFUSED)
        assert events.source_of(connection) is source
    assert (source.user_id, source.user_key, source.username) == (user.pk, str(user.pk), "alice")
    assert (source.ip, source.path, source.user_agent) == ("192.0.2.1", "/ws/chat/", "curl/8")
    assert source.connection_id == connection.id


async def test_nobody_has_a_source_without_a_user() -> None:
    async with connect(Echo):
        source = events.source_of(only_connection())
    assert (source.user_id, source.user_key, source.username) == (None, "", "")


async def test_a_new_identity_is_told_from_then_on(user: User) -> None:
    async with connect(Echo, user=user):
        connection = only_connection()
        before = events.source_of(connection)
        connection.identify(Identity(user=User(pk=user.pk + 1, username="bob"), kind="jwt"))
        after = events.source_of(connection)
        connection.identify(Identity(user=user, kind="session"))
    assert (before.username, after.username, after.user_key) == ("alice", "bob", str(user.pk + 1))


async def test_a_user_who_is_renamed_is_told_by_the_new_name_once_he_has_been_looked_up(user: User) -> None:
    async with connect(Echo, user=user):
        events.message_refused(only_connection(), REFUSED)
        await User.objects.filter(pk=user.pk).aupdate(username="alicia")
        await connections.arecheck(user=user)
        await _looked_up("alicia")
        events.message_refused(only_connection(), REFUSED)
    assert [row.username for row in await rows(kind="message.denied")] == ["alice", "alicia"]


async def _looked_up(name: str) -> None:
    from channels_secure.supervisor import revalidation

    await revalidation.revalidate(registry())
    assert only_connection().user.username == name


async def test_a_user_who_is_deleted_keeps_the_name_and_loses_the_key(user: User) -> None:
    async with connect(Echo, user=user):
        connection = only_connection()
        assert events.source_of(connection).user_id == user.pk
        await connection.user.adelete()
        source = events.source_of(connection)
        assert (source.user_id, source.user_key, source.username) == (None, "", "alice")


async def test_a_user_model_that_raises_keeps_no_event_from_being_recorded(user: User) -> None:
    class Odd(User):
        class Meta:
            proxy = True
            app_label = "auth"

        def get_username(self) -> str:
            raise RuntimeError("the directory is away")

    async with connect(Echo, user=user):
        connection = only_connection()
        connection.identify(Identity(user=Odd(pk=user.pk, username="alice"), kind="session"))
        events.message_refused(connection, REFUSED)
        connection.identify(Identity(user=user, kind="session"))
    [row] = await rows(kind="message.denied")
    assert (row.username, row.connection_id) == ("", connection.id)


def fastest(record: Callable[[], None]) -> float:
    """Seconds that some recordings take when nothing else is in their way."""
    spans = []
    for _ in range(9):
        began = time.perf_counter()
        for _ in range(300):
            record()
        spans.append(time.perf_counter() - began)
    return min(spans)


async def test_an_event_of_a_flood_costs_less_than_two_thirds_of_reading_its_source_each_time(user: User) -> None:
    def record_anew() -> None:
        facts: dict[str, Any] = {
            "user": connection.user,
            "ip": events.address_of(connection),
            "path": connection.handshake.safe_path,
            "origin": connection.handshake.origin_text or "",
            "user_agent": connection.handshake.user_agent,
            "connection_id": connection.id,
        }
        audit.record("message.denied", REFUSED.reason, detail={}, **facts)

    def record() -> None:
        events._record(connection, "message.denied", REFUSED.reason, {})

    async with connect(Echo, user=user):
        connection: Connection = only_connection()
        assert fastest(record) < fastest(record_anew) * 2 / 3
