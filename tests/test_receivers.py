"""Django's own signals: what a logout, a save, a deletion and a change of rights mean for open sockets."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import alogin, alogout, login, logout, update_session_auth_hash
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.db import DatabaseError, transaction
from django.test import RequestFactory
from pytest_django import DjangoAssertNumQueries

from channels_secure import receivers
from channels_secure.auth.base import digest_of
from channels_secure.connections import registry
from channels_secure.models import AuditEvent, PolicyVersion, Revocation, policy_change
from channels_secure.testing import SecureCommunicator
from tests.conftest import MakeUser
from tests.sockets import Echo, ask, connect, logged, quiet, told  # noqa: F401
from tests.test_revocation import in_thread

pytestmark = [pytest.mark.django_db(transaction=True)]


def version() -> int:
    return PolicyVersion.current("default")


def count_one() -> None:
    """Later versions count on from the first, which comes from the clock."""
    with policy_change():
        pass


def made() -> list[tuple[str, str, str]]:
    return list(Revocation.objects.order_by("id").values_list("kind", "subject", "reason"))


async def opened(**options: Any) -> SecureCommunicator:
    socket = connect(Echo, **options)
    assert (await socket.shake_hands()).accepted
    return socket


def request_of(socket: SecureCommunicator, user: Any) -> Any:
    """The HTTP request that the browser behind a socket would send."""
    request: Any = RequestFactory().post("/")
    (key,) = socket.cookies.values()
    request.session = import_module(django_settings.SESSION_ENGINE).SessionStore(key)
    request.user = user
    return request


# Logout ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
async def test_logging_out_ends_that_session_s_sockets_and_no_others(user: User) -> None:
    here, same, phone = await opened(user=user), connect(Echo), await opened(user=user)
    same.cookies = dict(here.cookies)
    assert (await same.shake_hands()).accepted
    await in_thread(lambda: logout(request_of(here, user)))
    for socket in (here, same):
        assert await told(socket) == ("session_ended", 4401)
    assert await ask(phone, 1) == 1
    await phone.disconnect()


@pytest.mark.usefixtures("quiet")
async def test_logging_out_asynchronously_too(user: User) -> None:
    socket = await opened(user=user)
    await alogout(request_of(socket, user))
    assert await told(socket) == ("session_ended", 4401)


@pytest.mark.usefixtures("quiet")
async def test_a_session_that_was_logged_out_opens_nothing_though_its_store_still_knows_it(user: User) -> None:
    """The signal comes before Django flushes the session, and a signed cookie is never flushed at all."""
    socket = await opened(user=user)
    await in_thread(lambda: receivers._logged_out(request=request_of(socket, user)))
    assert await told(socket) == ("session_ended", 4401)
    again = connect(Echo)
    again.cookies = dict(socket.cookies)
    outcome = await again.shake_hands()
    assert (outcome.accepted, outcome.error["code"]) == (False, "invalid_credentials")


@pytest.mark.parametrize("session", [None, object()], ids=["no session", "not a session"])
def test_a_logout_without_a_session_is_none(session: Any, user: User) -> None:
    request: Any = RequestFactory().post("/")
    request.session = session
    receivers._logged_out(request=request)
    receivers._logged_out(request=None)
    assert made() == []


def test_a_signed_cookie_is_refused_for_as_long_as_it_would_be_good(settings: Any, user: User) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    request: Any = RequestFactory().post("/")
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    login(request, user)
    key = request.session.session_key
    logout(request)
    row = Revocation.objects.get()
    assert (row.kind, row.subject) == ("session", digest_of(key))
    assert (row.expires_at - row.not_before).total_seconds() == pytest.approx(settings.SESSION_COOKIE_AGE, abs=5)


async def test_logging_in_revokes_nothing(user: User) -> None:
    request: Any = RequestFactory().post("/")
    request.session = import_module(django_settings.SESSION_ENGINE).SessionStore()
    await alogin(request, user)
    assert await in_thread(made) == []


# Saving ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "change",
    [
        lambda user: setattr(user, "is_active", False),
        lambda user: user.set_password("another one"),
        lambda user: user.set_unusable_password(),
    ],
    ids=["inactive", "password", "no password"],
)
async def test_a_change_that_ends_the_right_to_be_there_ends_the_sockets(
    user: User, make_user: MakeUser, change: Callable[[User], None]
) -> None:
    bob = await in_thread(lambda: make_user("bob"))
    doomed, other = await opened(user=user), await opened(user=bob)
    change(user)
    await in_thread(user.save)
    assert await told(doomed) == ("session_ended", 4401)
    assert await ask(other, 1) == 1
    await other.disconnect()


@pytest.mark.usefixtures("quiet")
async def test_the_browser_that_changes_its_password_is_told_to_reconnect_and_may(user: User) -> None:
    socket = await opened(user=user)
    request = request_of(socket, user)

    def change() -> None:
        with transaction.atomic():
            user.set_password("another one")
            user.save()
            update_session_auth_hash(request, user)
            request.session.save()  # as the middleware does after the view

    await in_thread(change)
    frame = await socket.receive_json_from()
    assert (frame["code"], frame["reconnect"]) == ("session_ended", True)
    await socket.closing()
    again = connect(Echo, cookies={"sessionid": request.session.session_key})
    assert (await again.shake_hands()).accepted
    await again.disconnect()


def test_only_what_matters_is_told_and_only_when_it_changed(user: User, make_user: MakeUser) -> None:
    before = version()
    user.first_name = "Alicia"
    user.save()
    user.save(update_fields=["last_login"])
    user.last_name = "Liddell"
    user.is_active = False
    user.save(update_fields=["last_name"])
    User.objects.defer("password", "is_active").get(pk=user.pk).save()
    make_user("bob", is_active=False)
    assert (version(), made()) == (before, [])
    user.save(update_fields=["is_active"])
    assert made() == [("user", str(user.pk), "recheck")]
    user.save()
    assert len(made()) == 1


@pytest.mark.parametrize("field", ["is_active", "is_staff", "is_superuser", "password"])
def test_every_watched_field_is_told_whichever_way_it_changes(user: User, field: str) -> None:
    loaded = User.objects.get(pk=user.pk)
    setattr(loaded, field, "!" if field == "password" else not getattr(loaded, field))
    loaded.save()
    assert made() == [("user", str(user.pk), "recheck")]


def test_loading_and_saving_cost_no_more_queries(user: User, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(2):
        loaded = User.objects.only("username").get(pk=user.pk)
        loaded.username = "alicia"
        loaded.save()


def test_an_import_of_thousands_is_one_change_of_policy(make_user: MakeUser) -> None:
    User.objects.bulk_create([User(username=f"user{n}", password="x") for n in range(300)])
    count_one()
    before = version()
    with transaction.atomic():
        for user in User.objects.all():
            user.is_active = False
            user.save()
    assert len(made()) == 300
    assert version() - before == 1


def test_an_import_that_changes_nothing_that_matters_is_none() -> None:
    User.objects.bulk_create([User(username=f"user{n}", password="x") for n in range(50)])
    before = version()
    for user in User.objects.all():
        user.email = "new@example.com"
        user.save()
    assert (version(), made()) == (before, [])


def test_a_savepoint_that_is_rolled_back_takes_its_users_along(user: User, make_user: MakeUser) -> None:
    bob, carol = make_user("bob"), make_user("carol")

    def deactivate(person: User) -> None:
        person.is_active = False
        person.save()

    with transaction.atomic():
        deactivate(user)
        try:
            with transaction.atomic():
                deactivate(bob)
                raise KeyError
        except KeyError:
            pass
        deactivate(carol)
    assert {subject for _, subject, _ in made()} == {str(user.pk), str(carol.pk)}


def test_fixtures_are_loaded_without_a_word(user: User) -> None:
    from django.core import serializers

    text = serializers.serialize("json", [user]).replace('"is_active": true', '"is_active": false')
    for loaded in serializers.deserialize("json", text):
        loaded.save()
    assert made() == []


# Deleting -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("how", ["instance", "queryset"])
async def test_a_deleted_user_s_sockets_end(user: User, make_user: MakeUser, how: str) -> None:
    bob = await in_thread(lambda: make_user("bob"))
    doomed, other = await opened(user=user), await opened(user=bob)
    await in_thread(user.delete if how == "instance" else User.objects.filter(pk=user.pk).delete)
    assert await told(doomed) == ("session_ended", 4401)
    assert await ask(other, 1) == 1
    await other.disconnect()


def test_deleting_many_is_one_change(make_user: MakeUser) -> None:
    User.objects.bulk_create([User(username=f"user{n}", password="x") for n in range(50)])
    count_one()
    before = version()
    User.objects.all().delete()
    assert len(made()) == 50
    assert version() - before == 1


# Rights ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "whom"),
    [
        (lambda alice, group: alice.groups.add(group), {"alice"}),
        (lambda alice, group: alice.groups.clear(), {"alice"}),
        (lambda alice, group: group.user_set.remove(*User.objects.all()), {"alice", "bob"}),
        (lambda alice, group: group.user_set.clear(), {"bob"}),
        (lambda alice, group: group.user_set.set([alice]), {"alice", "bob"}),
        (lambda alice, group: alice.user_permissions.add(Permission.objects.first()), {"alice"}),
        (lambda alice, group: Permission.objects.earliest("pk").user_set.add(alice), {"alice"}),
    ],
    ids=["add", "clear", "remove reversely", "clear reversely", "set reversely", "permission", "permission reversely"],
)
def test_other_rights_are_told_to_those_who_got_or_lost_them(
    act: Callable[[User, Group], None], whom: set[str], user: User, make_user: MakeUser
) -> None:
    bob, group = make_user("bob"), Group.objects.create(name="staff")
    bob.groups.add(group)
    Revocation.objects.all().delete()
    act(user, group)
    names = {str(person.pk): person.username for person in (user, bob)}
    assert {names[subject] for _, subject, _ in made()} == whom
    assert {(kind, reason) for kind, _, reason in made()} == {("user", "recheck")}


@pytest.mark.usefixtures("quiet")
async def test_a_group_that_is_left_closes_the_room_it_opened(user: User) -> None:
    class Staff(Echo):
        async def authorize(self) -> bool:
            groups = self.scope["user"].groups
            return bool(await groups.filter(name="staff").aexists())

    group = await Group.objects.acreate(name="staff")
    await user.groups.aadd(group)
    socket = connect(Staff, user=user)
    assert (await socket.shake_hands()).accepted
    await user.groups.aremove(group)
    assert await told(socket) == ("permission_denied", 4403)


# Trouble --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["save", "delete", "logout"])
def test_what_cannot_be_told_is_logged_and_the_request_goes_on(
    user: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, act: str
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(receivers, "insert", away)
    if act == "save":
        user.is_active = False
        user.save()
    elif act == "delete":
        user.delete()
    else:
        request: Any = RequestFactory().post("/")
        request.user = user
        request.session = import_module(django_settings.SESSION_ENGINE).SessionStore()
        login(request, user)
        logout(request)
        assert isinstance(request.user, AnonymousUser)
    assert logged(caplog) == ["revocation.failed"]
    assert made() == []
    assert not AuditEvent.objects.exists()


@pytest.mark.usefixtures("quiet")
async def test_what_was_not_told_is_found_by_re_validation(user: User, settings: Any) -> None:
    settings.CHANNELS_SECURE = {"REVALIDATE_INTERVAL": 0.2, "AUDIT_FLUSH_INTERVAL": 0.02}
    socket = await opened(user=user)
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)
    assert await told(socket) == ("session_ended", 4401)
    assert len(registry()) == 0
