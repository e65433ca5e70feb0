"""The table of who may do what to whom, held against itself written out."""

from types import SimpleNamespace
from typing import Any

import pytest

from channels_secure.rooms.models import Room
from channels_secure.rooms.roles import Act, Role, admits, may, role_of

OWNER, MODERATOR, MEMBER, GUEST = Role.OWNER, Role.MODERATOR, Role.MEMBER, Role.GUEST
TO_SOMEBODY = [Act.MUTE, Act.UNMUTE, Act.KICK, Act.BAN, Act.UNBAN, Act.DELETE]
# For each actor, those to whom they may do it.
REACH = {OWNER: {MODERATOR, MEMBER, GUEST}, MODERATOR: {MEMBER, GUEST}, MEMBER: set(), GUEST: set()}
# For each actor, the roles that they may give to those whom they may reach.
GIVES = {OWNER: {MODERATOR, MEMBER, GUEST}, MODERATOR: {MEMBER, GUEST}, MEMBER: set(), GUEST: set()}


@pytest.mark.parametrize("act", TO_SOMEBODY)
@pytest.mark.parametrize("actor", Role)
@pytest.mark.parametrize("target", Role)
def test_an_act_reaches_only_lower_roles(act: Act, actor: Role, target: Role) -> None:
    assert may(act, actor, target) is (target in REACH[actor])


@pytest.mark.parametrize("actor", Role)
@pytest.mark.parametrize("target", Role)
@pytest.mark.parametrize("gives", Role)
def test_nobody_gives_a_role_as_high_as_their_own(actor: Role, target: Role, gives: Role) -> None:
    assert may(Act.PROMOTE, actor, target, gives) is (target in REACH[actor] and gives in GIVES[actor])


@pytest.mark.parametrize("actor", Role)
@pytest.mark.parametrize("target", Role)
def test_only_the_owner_hands_the_room_over(actor: Role, target: Role) -> None:
    assert may(Act.HAND_OVER, actor, target, OWNER) is (actor is OWNER and target is not OWNER)


@pytest.mark.parametrize("actor", Role)
def test_the_rules_of_the_room_are_its_moderators(actor: Role) -> None:
    assert may(Act.SLOW, actor) is (actor in {OWNER, MODERATOR})


def test_every_act_has_a_least_role_and_is_tested_here() -> None:
    assert set(Act) == {*TO_SOMEBODY, Act.PROMOTE, Act.HAND_OVER, Act.SLOW}


def a_room(visibility: str = "public", owner: int | None = 1) -> Any:
    return Room(visibility=visibility, owner_id=owner)


def row(role: str, *, banned: bool = False) -> Any:
    return SimpleNamespace(role=role, banned=banned)


@pytest.mark.parametrize(
    ("user", "membership", "role"),
    [
        (1, None, OWNER),
        (1, row("guest", banned=True), OWNER),
        (2, None, GUEST),
        (None, None, GUEST),
        (2, row("moderator"), MODERATOR),
        (2, row("member"), MEMBER),
        (2, row("guest"), GUEST),
        # What SQL may leave behind.
        (2, row("owner"), MODERATOR),
        (2, row("emperor"), GUEST),
        (2, row("moderator", banned=True), GUEST),
    ],
)
def test_the_owner_is_whom_the_room_names(user: int | None, membership: Any, role: Role) -> None:
    assert role_of(a_room(), membership, user) is role


def test_nobody_owns_a_room_without_an_owner() -> None:
    assert role_of(a_room(owner=None), None, None) is GUEST


@pytest.mark.parametrize(
    ("visibility", "user", "membership", "enters"),
    [
        ("public", None, None, True),
        ("public", 2, None, True),
        ("public", 2, row("guest", banned=True), False),
        ("members", None, None, False),
        ("members", 2, None, False),
        ("members", 2, row("guest"), False),
        ("members", 2, row("member"), True),
        ("members", 2, row("member", banned=True), False),
        ("private", 2, None, False),
        ("private", 2, row("member"), True),
        ("private", 2, row("moderator"), True),
        ("private", 1, None, True),
        ("private", 1, row("guest", banned=True), True),
        # A visibility that SQL made up is as good as private.
        ("secret", 2, row("guest"), False),
        ("secret", 2, row("member"), True),
    ],
)
def test_who_enters(visibility: str, user: int | None, membership: Any, enters: bool) -> None:
    assert admits(a_room(visibility), membership, user) is enters
