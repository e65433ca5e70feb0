"""The admin's pages of rooms: what is changed there holds for open sockets, and the trail says who did it."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from channels_secure.models import AuditEvent, Revocation
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role
from tests.admin.conftest import OPERATOR, admin, client_of, operator_with, page, root, staff
from tests.rooms.people import heard, in_thread, inside
from tests.sockets import quiet

__all__ = ["admin", "operator_with", "quiet", "root", "staff"]

pytestmark = pytest.mark.django_db(transaction=True)

ROOMS, MEMBERS = "/admin/channels_secure_rooms/room/", "/admin/channels_secure_rooms/membership/"


@pytest.fixture
def room(root: User) -> Room:
    room = Room(slug="lobby", title="Lobby", owner=root, visibility="public")
    room.save()
    return room


@pytest.fixture
def bob(room: Room) -> Membership:
    return Membership.objects.create(room=room, user=User.objects.create_user("bob"))


def of_room(room: Room, **changed: Any) -> dict[str, Any]:
    form = {"slug": room.slug, "title": room.title, "owner": room.owner_id, "visibility": room.visibility}
    return {**form, "message_rate": room.message_rate, "slow_mode": room.slow_mode, **changed}


def of_member(row: Membership, **changed: Any) -> dict[str, Any]:
    form = {"room": row.room_id, "user": row.user_id, "role": row.role, "muted_until_0": "", "muted_until_1": ""}
    return {**form, **changed}


def trail() -> list[tuple[str, str, str, str, Any]]:
    events = AuditEvent.objects.filter(kind="room.moderated").order_by("id")
    return [(each.reason, each.username, each.actor, each.actor_from, each.detail) for each in events]


def test_every_page_can_be_seen(admin: Client, room: Room, bob: Membership) -> None:
    for url in (ROOMS, f"{ROOMS}add/", f"{ROOMS}{room.pk}/change/", MEMBERS, f"{MEMBERS}add/"):
        assert "Lobby" in page(admin, url) or url.endswith("add/")
    assert "bob" in page(admin, f"{MEMBERS}{bob.pk}/change/")


def test_what_is_done_to_a_member_is_recorded_as_the_act_it_is(admin: Client, bob: Membership) -> None:
    url = f"{MEMBERS}{bob.pk}/change/"
    for changed in (
        {"role": "moderator"},
        {"role": "moderator", "muted_until_0": "2100-01-01", "muted_until_1": "00:00:00"},
        {"role": "guest", "banned": "on"},
        {"role": "guest"},
    ):
        assert admin.post(url, of_member(bob, **changed)).status_code == 302
    assert admin.post(f"{MEMBERS}{bob.pk}/delete/", {"post": "yes"}).status_code == 302
    assert [(act, user, actor, place) for act, user, actor, place, _ in trail()] == [
        (act, "bob", "root", OPERATOR)
        for act in ("promote", "mute", "promote", "unmute", "ban", "unban", "remove")
    ]  # fmt: skip
    assert not Membership.objects.filter(pk=bob.pk).exists()


def test_what_is_done_to_a_room_is_recorded_as_the_act_it_is(admin: Client, room: Room, bob: Membership) -> None:
    url = f"{ROOMS}{room.pk}/change/"
    for changed in (
        {"slow_mode": 5},
        {"slow_mode": 5, "owner": bob.user_id},
        {"slow_mode": 5, "visibility": "private"},
    ):
        room.refresh_from_db()
        assert admin.post(url, of_room(room, **changed)).status_code == 302
    room.refresh_from_db()
    assert (room.slow_mode, room.owner_id, room.visibility) == (5, bob.user_id, "private")
    assert Membership.objects.get(pk=bob.pk).role == Role.OWNER
    chosen = {"action": "delete_selected", "_selected_action": [room.pk], "post": "yes"}
    assert admin.post(ROOMS, chosen).status_code == 302
    assert [(act, user, detail) for act, user, _, _, detail in trail()] == [
        ("slow", "", {"room": "lobby", "seconds": 5}),
        ("hand_over", "bob", {"room": "lobby", "role": "owner"}),
        ("change", "", {"room": "lobby", "visibility": "private"}),
        ("remove", "", {"room": "lobby"}),
    ]


@pytest.mark.parametrize(
    "changed", [{"role": "owner"}, {"role": "emperor"}, {"user": 10**9}, {"muted_until_0": "soon"}]
)
def test_what_cannot_be_is_said_on_the_page_and_changes_nothing(
    admin: Client, bob: Membership, changed: dict[str, Any]
) -> None:
    told = Revocation.objects.count()
    response = admin.post(f"{MEMBERS}{bob.pk}/change/", of_member(bob, **changed))
    assert response.status_code == 200
    assert b"errorlist" in response.content
    assert (trail(), Revocation.objects.count(), Membership.objects.get(pk=bob.pk).role) == ([], told, "member")


@pytest.mark.parametrize("changed", [{"banned": "on"}, {"role": "member"}, {"muted_until_0": "2100-01-01"}])
def test_the_owner_is_safe_from_the_admin_too(admin: Client, room: Room, changed: dict[str, Any]) -> None:
    row = Membership.objects.get(room=room, role=Role.OWNER)
    response = admin.post(f"{MEMBERS}{row.pk}/change/", of_member(row, muted_until_1="00:00:00", **changed))
    assert response.status_code == 200
    assert trail() == []


@pytest.mark.parametrize("rate", ["many", "5/x", "0/s", "5/10s; DROP"])
def test_a_rate_that_is_none_is_refused(admin: Client, room: Room, rate: str) -> None:
    assert admin.post(f"{ROOMS}{room.pk}/change/", of_room(room, message_rate=rate)).status_code == 200
    with pytest.raises(ValueError, match="is not a rate"):
        Room(slug="other", title="Other", message_rate=rate).save()


def test_the_lock_of_every_change_is_taken_before_anything_is_read(admin: Client, bob: Membership) -> None:
    """SQLite could not get it once the transaction has read, and decisions would cross."""
    with CaptureQueriesContext(connection) as captured:
        admin.post(f"{MEMBERS}{bob.pk}/change/", of_member(bob, role="moderator"))
    statements = [query["sql"] for query in captured.captured_queries]
    locked = next(number for number, sql in enumerate(statements) if "policyversion" in sql)
    read = next(number for number, sql in enumerate(statements) if "rooms_membership" in sql)
    assert locked < read


def test_whoever_lacks_the_permission_changes_nothing(operator_with: Any, bob: Membership) -> None:
    looker = operator_with("view_membership")
    assert looker.post(f"{MEMBERS}{bob.pk}/change/", of_member(bob, banned="on")).status_code == 403
    assert client_of(bob.user).get(MEMBERS).status_code == 302
    assert not Membership.objects.get(pk=bob.pk).banned


@pytest.mark.usefixtures("quiet")
async def test_a_ban_in_the_admin_ends_the_open_socket(admin: Client, room: Room, bob: Membership) -> None:
    socket, watcher = await inside("lobby", bob.user), await inside("lobby", room.owner)
    await in_thread(admin.post, f"{MEMBERS}{bob.pk}/change/", of_member(bob, banned="on"))
    assert await socket.closing() == (4403, "permission_denied")
    await in_thread(admin.post, f"{ROOMS}{room.pk}/change/", of_room(room, title="Hall"))
    assert (await heard(watcher, "room.changed"))["title"] == "Hall"
    await watcher.disconnect()
