"""The tables of the rooms: what they keep, and which rooms somebody sees."""

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction

from channels_secure.models import Revocation
from channels_secure.rooms import looking, moderation
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role

pytestmark = pytest.mark.django_db


def a_room(slug: str = "lobby", **fields: Any) -> Room:
    room = Room(slug=slug, title=slug, **fields)
    room.save()
    return room


def test_the_migrations_say_what_the_models_say() -> None:
    call_command("makemigrations", "channels_secure_rooms", check=True, dry_run=True, stdout=StringIO())


def test_the_owner_of_a_room_has_a_membership_that_says_so(user: Any, make_user: Any) -> None:
    bob = make_user("bob")
    room = a_room(owner=user)
    Membership.objects.create(room=room, user=bob)
    assert {row.user_id: row.role for row in room.memberships.all()} == {user.pk: "owner", bob.pk: "member"}
    room.owner = bob
    room.save(update_fields=["title"])
    assert room.memberships.get(role=Role.OWNER).user == user
    room.save()
    assert {row.user_id: row.role for row in room.memberships.all()} == {user.pk: "moderator", bob.pk: "owner"}
    room.owner = None
    room.save()
    assert not room.memberships.filter(role=Role.OWNER).exists()


def test_whoever_is_given_a_room_is_neither_muted_nor_banned_in_it(user: Any) -> None:
    room = a_room()
    Membership.objects.create(room=room, user=user, role=Role.GUEST, banned=True)
    room.owner = user
    room.save()
    row = room.memberships.get()
    assert (row.role, row.banned, row.muted_until) == ("owner", False, None)


@pytest.mark.parametrize("fields", [{"role": "owner"}, {"role": "owner", "banned": True}])
def test_a_membership_makes_nobody_the_owner(user: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="owner is set on the room"):
        Membership(room=a_room(), user=user, **fields).save()


@pytest.mark.parametrize("fields", [{"role": "guest"}, {"banned": True}])
def test_a_membership_takes_the_room_from_nobody(user: Any, fields: dict[str, Any]) -> None:
    row = a_room(owner=user).memberships.get()
    for name, value in fields.items():
        setattr(row, name, value)
    with pytest.raises(ValueError, match="owner"):
        row.save()
    with pytest.raises(ValidationError):
        row.full_clean()
    row.refresh_from_db()
    assert (row.role, row.banned) == ("owner", False)


def test_the_database_keeps_a_second_owner_out_and_a_second_row(user: Any, make_user: Any) -> None:
    room, bob = a_room(owner=user), make_user("bob")
    for row in (Membership(room=room, user=bob, role=Role.OWNER), Membership(room=room, user=user)):
        with pytest.raises(IntegrityError), transaction.atomic():
            Membership.objects.bulk_create([row])


def test_a_name_is_kept_in_one_form() -> None:
    assert a_room("cafe\u0301").slug == "caf\u00e9"
    with pytest.raises(IntegrityError), transaction.atomic():
        a_room("caf\u00e9")


@pytest.mark.parametrize("slug", ["a b", "a/b", "a\x00b", "\u202eabc", "", "x" * 81])
def test_a_form_takes_no_name_that_is_none(slug: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Room(slug=slug, title="x").full_clean()
    assert "slug" in refused.value.message_dict


def test_everybody_sees_the_rooms_that_are_for_them(user: Any, make_user: Any) -> None:
    for visibility in Room.Visibility:
        room = a_room(f"{visibility}-0", visibility=visibility)
        a_room(f"{visibility}-mine", visibility=visibility, owner=user)
        for role in ("moderator", "member", "guest"):
            room = a_room(f"{visibility}-{role}", visibility=visibility)
            Membership.objects.create(room=room, user=user, role=role)
            Membership.objects.create(room=room, user=make_user(f"{visibility}-{role}"))
        banned = a_room(f"{visibility}-banned", visibility=visibility)
        Membership.objects.create(room=banned, user=user, role="guest", banned=True)
    everywhere = {"0", "mine", "moderator", "member", "guest"}
    seen = {room.slug for room in Room.objects.visible_to(user)}
    assert seen == {
        *(f"{visibility}-{name}" for visibility in ("public", "members") for name in everywhere),
        *(f"private-{name}" for name in ("mine", "moderator", "member")),
    }
    assert {room.slug for room in Room.objects.visible_to(None)} == {
        f"public-{name}" for name in {*everywhere, "banned"}
    }
    assert len(seen) == Room.objects.visible_to(user).count()


def test_ten_thousand_members_cost_an_entrance_and_an_act_no_more_than_ten(django_assert_max_num_queries: Any) -> None:
    users = User.objects.bulk_create([User(username=f"user{number}") for number in range(10_000)])
    room = a_room(owner=users[0])
    Membership.objects.bulk_create([Membership(room=room, user=each) for each in users[1:]])
    told = Revocation.objects.count()
    with django_assert_max_num_queries(2):
        rooms, memberships = looking._look_up([looking.Question("lobby", each.pk) for each in users[-200:]])
    assert (rooms["lobby"].pk, len(memberships)) == (room.pk, 200)
    with django_assert_max_num_queries(25):
        moderation.mute(room, users[5], 60, by=users[0])
    with django_assert_max_num_queries(25):
        moderation.set_slow_mode(room, 5, by=users[0])
    assert Revocation.objects.count() == told + 2
    room.delete()
    assert Revocation.objects.count() == told + 3
    assert not Membership.objects.exists()
