"""A user who is deleted while connected: Django takes the primary key away, also from the object in the scope."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from channels_secure.connections import registry
from channels_secure.signals import policy_changed
from channels_secure.supervisor import supervisor as internals
from tests.sockets import Echo, ask, connect, only_connection, quiet, rows  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


@pytest.fixture(autouse=True)
def untold() -> Iterator[None]:
    """The supervisor is not told at once, and lets the socket live until something has been asked of it."""
    policy_changed.disconnect(dispatch_uid="channels_secure.supervisor")
    yield
    policy_changed.connect(internals._policy_changed, dispatch_uid="channels_secure.supervisor")


class Leaving(Echo):
    """Lets people delete their account."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if content == "delete me":
            await self.scope["user"].adelete()
        await self.send_json(content)


async def test_a_user_who_deletes_himself_is_forgotten_when_he_leaves(user: User) -> None:
    async with connect(Leaving, user=user) as socket:
        assert await ask(socket, "delete me") == "delete me"
        assert only_connection().user.pk is None
        assert registry().of_user(str(user.pk)) == [only_connection()]
    assert (registry().by_user, registry().by_address, len(registry())) == ({}, {}, 0)


async def test_the_audit_trail_still_names_him(user: User) -> None:
    async with connect(Leaving, user=user) as socket:
        await ask(socket, "delete me")
    [closed] = await rows(kind="connection.closed")
    assert (closed.username, closed.user_id) == ("alice", None)


async def test_what_he_spends_until_then_is_still_counted_as_his(user: User) -> None:
    async with connect(Leaving, user=user) as socket:
        before = only_connection().subject_key
        await ask(socket, "delete me")
        assert only_connection().subject_key == before == f"user:{user.pk}"
