"""Tickets: what they inherit, what binds them, and that whatever is wrong with one uses it up."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import SynchronousOnlyOperation
from django.core.signing import Signer
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from channels_secure import stores
from channels_secure.auth import shelves
from channels_secure.auth.base import Identity, combine, digest_of
from channels_secure.auth.issuing import Grant, issue_for, seal, unseal
from channels_secure.auth.jwt import JWTAuthenticator
from channels_secure.auth.session import SessionAuthenticator
from channels_secure.auth.tickets import TicketAuthenticator, aissue_ticket, delete_expired, issue_ticket
from channels_secure.exceptions import Unavailable
from channels_secure.models import Ticket
from channels_secure.policy.addresses import Proxies
from channels_secure.policy.decisions import Denial, Reason
from channels_secure.policy.handshake import Handshake
from channels_secure.stores.memory import MemoryStore
from tests.auth.bearer import identity as jwt_identity
from tests.auth.handshakes import answer_of, denial_of, identity_of, shake
from tests.auth.test_session import log_in
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db(transaction=True)

authenticator = TicketAuthenticator()
TICKET_KEY = "T" * 43


def with_ticket(ticket: str, **others: Any) -> Handshake:
    return shake(query={"ticket": ticket}, **others)


def redeemed(ticket: str) -> Identity:
    return identity_of(authenticator, with_ticket(ticket))


def assert_refused(handshake: Handshake, detail: str, reason: Reason = Reason.INVALID_CREDENTIALS) -> None:
    answer = denial_of(authenticator, handshake)
    assert (answer.reason, answer.detail, answer.ambient) == (reason, detail, False)


def assert_burnt(ticket: str) -> None:
    assert_refused(with_ticket(ticket), "ticket_unknown")
    assert not Ticket.objects.exists()


# A good ticket -------------------------------------------------------------------------------------------------------


def test_a_ticket_names_its_user_and_is_explicit(user: User) -> None:
    began = time.time()
    found = redeemed(issue_ticket(user))
    assert (found.user, found.kind, found.ambient) == (user, "ticket", False)
    assert found.auth_hash == user.get_session_auth_hash()
    assert found.auth_hash not in repr(found)
    assert (found.expires_at, found.session_key, found.session, found.jti) == (None, None, None, None)
    assert found.issued_at is not None
    assert began <= found.issued_at <= time.time()


def test_a_ticket_may_come_as_a_subprotocol(user: User) -> None:
    entry = f"channels-secure.ticket.{issue_ticket(user)}"
    assert identity_of(authenticator, shake(subprotocols=["channels-secure.v1", entry])).user == user


def test_no_ticket_is_no_answer_and_no_query(queries: list[str]) -> None:
    assert answer_of(authenticator, shake(subprotocols=["channels-secure.v1"], query={"token": "x"})) is None
    assert queries == []


async def test_a_ticket_is_issued_from_the_event_loop_too() -> None:
    user = await User.objects.acreate_user("alice")
    ticket = await aissue_ticket(user, path="/ws/")
    found = await authenticator.authenticate(with_ticket(ticket))
    assert isinstance(found, Identity)
    assert found.user == user


async def test_the_synchronous_function_says_so_in_an_event_loop() -> None:
    user = await User.objects.acreate_user("alice")
    with pytest.raises(SynchronousOnlyOperation, match="aissue_ticket"):
        issue_ticket(user)


def test_tickets_are_256_random_bits(user: User) -> None:
    tickets = {issue_ticket(user) for _ in range(20)}
    assert len(tickets) == 20
    assert {len(ticket) for ticket in tickets} == {43}
    assert all(
        set(ticket) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") for ticket in tickets
    )


# What it inherits ----------------------------------------------------------------------------------------------------


def test_a_ticket_for_a_session_brings_the_session_and_its_end(user: User) -> None:
    key = log_in(user)
    at_handshake = identity_of(SessionAuthenticator(), shake(cookies={"sessionid": key}))
    found = redeemed(issue_ticket(user, session_key=key))
    assert (found.session_key, found.expires_at) == (key, at_handshake.expires_at)
    assert (found.session_expires_at, found.token_expires_at) == (at_handshake.expires_at, None)
    assert found.session["_auth_user_id"] == str(user.pk)


def test_a_ticket_for_a_token_ends_with_the_token_and_not_after_its_own_thirty_seconds(user: User) -> None:
    token = AccessToken.for_user(user)
    token["iat"] -= 100
    found = redeemed(issue_for(jwt_identity(str(token))))
    assert (found.kind, found.jti, found.issued_at) == ("ticket", token["jti"], float(token["iat"]))
    assert found.auth_hash is None
    assert found.expires_at == found.token_expires_at == float(token["exp"])


def test_a_ticket_keeps_what_its_token_says_of_the_password(user: User, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}
    token = AccessToken.for_user(user)
    assert redeemed(issue_for(jwt_identity(str(token)))).fingerprint == token["hash_password"]


@pytest.mark.parametrize("convert", [lambda moment: moment, lambda moment: moment.timestamp()])
def test_the_end_may_be_given_as_a_time_or_a_number(user: User, convert: Callable[[Any], Any]) -> None:
    end = timezone.now() + timedelta(hours=1)
    found = redeemed(issue_ticket(user, jti="j", expires_at=convert(end), issued_at=5.0))
    assert (found.expires_at, found.jti, found.issued_at) == (end.timestamp(), "j", 5.0)


def test_the_session_or_the_given_end_whichever_is_first_ends_the_socket(user: User) -> None:
    soon = time.time() + 60
    found = redeemed(issue_ticket(user, session_key=log_in(user), expires_at=soon))
    assert found.expires_at == soon


# What binds it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ws/", "/ws%2F", "/%77s/"])
def test_a_path_may_be_given_as_the_browser_shows_it(user: User, path: str) -> None:
    assert redeemed(issue_ticket(user, path=path)).user == user


@pytest.mark.parametrize("ip", ["192.0.2.1", "::ffff:192.0.2.1"])
def test_a_ticket_for_this_address_is_accepted(user: User, ip: str) -> None:
    assert redeemed(issue_ticket(user, ip=ip)).user == user


def test_a_ticket_for_another_path_is_refused_and_burnt(user: User) -> None:
    ticket = issue_ticket(user, path="/ws/other/")
    assert_refused(with_ticket(ticket), "ticket_path")
    assert_burnt(ticket)


def test_a_ticket_for_another_address_is_refused_and_burnt(user: User) -> None:
    ticket = issue_ticket(user, ip="192.0.2.2")
    assert_refused(with_ticket(ticket), "ticket_address")
    assert_burnt(ticket)


def test_behind_an_undeclared_proxy_no_address_is_the_right_one(user: User) -> None:
    scope = {
        "path": "/ws/",
        "client": ["10.0.0.1", 1],
        "headers": [(b"x-forwarded-for", b"10.0.0.1")],
        "query_string": f"ticket={issue_ticket(user, ip='10.0.0.1')}".encode(),
    }
    handshake = Handshake.from_scope(scope, proxies=Proxies.from_settings(None, "X-Forwarded-For", None))
    assert handshake.client.undeclared_proxy
    assert_refused(handshake, "ticket_address")


# Misuse --------------------------------------------------------------------------------------------------------------


def test_a_ticket_works_once(user: User) -> None:
    ticket = issue_ticket(user)
    redeemed(ticket)
    assert_burnt(ticket)


def test_an_expired_ticket_is_refused_and_burnt(user: User) -> None:
    ticket = issue_ticket(user)
    Ticket.objects.update(expires_at=timezone.now())
    assert_refused(with_ticket(ticket), "ticket_expired")
    assert_burnt(ticket)


def test_the_lifetime_is_the_setting_or_the_argument(user: User, settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TICKET_LIFETIME": 7}
    began = timezone.now()
    issue_ticket(user)
    issue_ticket(user, lifetime=90.5)
    first, second = Ticket.objects.order_by("expires_at").values_list("expires_at", flat=True)
    assert timedelta(seconds=7) <= first - began < timedelta(seconds=17)
    assert timedelta(seconds=90.5) <= second - began < timedelta(seconds=100.5)


SHORT, LONG = "T" * 42, "T" * 44
AS_SUBPROTOCOL = ["", "x", SHORT, LONG, "T" * 10_000]


@pytest.mark.parametrize("ticket", [*AS_SUBPROTOCOL, SHORT + "=", SHORT + "é", " " + SHORT, SHORT + "\x00", "1' or 1"])
def test_what_cannot_be_a_ticket_costs_no_query(ticket: str, queries: list[str]) -> None:
    assert_refused(with_ticket(ticket), "ticket_malformed")
    if ticket in AS_SUBPROTOCOL:
        assert_refused(shake(subprotocols=["channels-secure.ticket." + ticket]), "ticket_malformed")
    assert queries == []


def test_a_guessed_ticket_costs_one_query_and_changes_nothing(user: User, queries: list[str]) -> None:
    issue_ticket(user)
    queries.clear()
    assert_refused(with_ticket(TICKET_KEY), "ticket_unknown")
    assert [query.split()[0] for query in queries] == ["SELECT"]
    assert Ticket.objects.count() == 1


def test_several_tickets_are_a_bad_request_and_none_is_used_up(user: User) -> None:
    first, second = issue_ticket(user), issue_ticket(user)
    entry = f"channels-secure.ticket.{first}"
    for handshake in (
        shake(query={"ticket": [first, second]}),
        shake(query={"ticket": first}, subprotocols=[entry]),
        shake(subprotocols=[entry, f"channels-secure.ticket.{second}"]),
    ):
        assert_refused(handshake, "several_tickets", Reason.BAD_REQUEST)
    assert Ticket.objects.count() == 2


def test_an_inactive_users_ticket_is_refused_and_burnt(user: User) -> None:
    ticket = issue_ticket(user)
    User.objects.update(is_active=False)
    assert_refused(with_ticket(ticket), "user_inactive")
    assert_burnt(ticket)


def test_a_deleted_users_ticket_is_refused_and_burnt(user: User) -> None:
    ticket = issue_ticket(user)
    user.delete()
    assert_refused(with_ticket(ticket), "user_unknown")
    assert_burnt(ticket)


@pytest.mark.parametrize("with_session", [False, True])
def test_a_changed_password_burns_the_ticket(user: User, with_session: bool) -> None:
    ticket = issue_ticket(user, session_key=log_in(user) if with_session else None)
    user.set_password("another one")
    user.save()
    assert_refused(with_ticket(ticket), "session_hash" if with_session else "password_changed")
    assert_burnt(ticket)


def test_a_rotated_secret_key_burns_no_ticket(user: User, settings: Settings) -> None:
    ticket = issue_ticket(user)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-key-that-is-long-enough-for-anything"
    assert redeemed(ticket).user == user


def test_logging_out_burns_the_ticket(user: User) -> None:
    client = Client()
    client.force_login(user)
    ticket = issue_ticket(user, session_key=client.session.session_key)
    client.logout()
    assert_refused(with_ticket(ticket), "session_unknown")
    assert_burnt(ticket)


def test_a_session_that_logged_out_and_lives_on_burns_the_ticket(user: User) -> None:
    client = Client()
    client.force_login(user)
    session = client.session
    ticket = issue_ticket(user, session_key=session.session_key)
    del session["_auth_user_id"]
    session.save()
    assert_refused(with_ticket(ticket), "session_logged_out")
    assert_burnt(ticket)


def test_a_session_that_logs_in_somebody_else_meanwhile_burns_the_ticket(user: User, make_user: MakeUser) -> None:
    client = Client()
    client.force_login(user)
    ticket = issue_ticket(user, session_key=client.session.session_key)
    bob = make_user("bob")
    session = client.session
    session.update({"_auth_user_id": str(bob.pk), "_auth_user_hash": bob.get_session_auth_hash()})
    session.save()
    assert_refused(with_ticket(ticket), "session_of_another_user")
    assert_burnt(ticket)


def test_a_ticket_whose_token_has_ended_says_so(user: User) -> None:
    ticket = issue_ticket(user, jti="j", expires_at=time.time() - 1)
    assert_refused(with_ticket(ticket), "ticket_of_expired_token", Reason.CREDENTIALS_EXPIRED)
    assert_burnt(ticket)


def test_blacklisting_the_token_burns_its_ticket(user: User) -> None:
    token = RefreshToken.for_user(user)
    ticket = issue_ticket(user, jti=token["jti"])
    token.blacklist()
    assert_refused(with_ticket(ticket), "token_blacklisted")
    assert_burnt(ticket)


def test_a_ticket_and_the_session_of_another_user_are_ambiguous(user: User, make_user: MakeUser) -> None:
    handshake = with_ticket(issue_ticket(user), cookies={"sessionid": log_in(make_user("bob"))})
    answer = combine([answer_of(SessionAuthenticator(), handshake), answer_of(authenticator, handshake)])
    assert isinstance(answer, Denial)
    assert answer.reason is Reason.AMBIGUOUS_CREDENTIALS


def test_a_ticket_beside_the_session_and_a_token_of_the_same_user_ends_with_the_first_of_them(user: User) -> None:
    token = AccessToken.for_user(user)
    handshake = with_ticket(
        issue_ticket(user, expires_at=time.time() + 1e6),
        cookies={"sessionid": log_in(user)},
        authorization=f"Bearer {token}",
    )
    authenticators = (SessionAuthenticator(), authenticator, JWTAuthenticator())
    answer = combine([answer_of(one, handshake) for one in authenticators])
    assert isinstance(answer, Identity)
    assert (answer.kind, answer.ambient) == ("session+ticket+jwt", False)
    assert (answer.expires_at, answer.issued_at) == (float(token["exp"]), float(token["iat"]))


# Arguments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": ""}, {"path": "ws/"}, {"path": "/ws/?a=1"}, {"path": "/ws/#a"}, {"path": "/" + "x" * 5000},
        {"path": 5}, {"ip": ""}, {"ip": "localhost"}, {"ip": "192.0.2.0/24"},
        {"lifetime": 0}, {"lifetime": -1}, {"lifetime": True}, {"lifetime": float("nan")}, {"lifetime": float("inf")},
    ],
)  # fmt: skip
def test_an_argument_that_makes_no_sense_is_a_value_error(user: User, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words differ
        issue_ticket(user, **wrong)
    assert not Ticket.objects.exists()


def test_nobody_gets_no_ticket(user: User) -> None:
    user.is_active = False
    for nobody in (AnonymousUser(), User(username="unsaved"), user, None):
        with pytest.raises(ValueError, match="stored and active"):
            issue_ticket(nobody)


# What is stored ------------------------------------------------------------------------------------------------------


def test_neither_the_ticket_nor_what_it_stands_for_can_be_read_from_the_table(user: User) -> None:
    key = log_in(user)
    ticket = issue_ticket(user, session_key=key, jti="some-token-id", path="/ws/some/path/")
    row = Ticket.objects.get()
    assert row.pk == digest_of(ticket)
    for secret in (ticket, key, user.get_session_auth_hash(), "some-token-id", "/ws/some/path/"):
        assert secret not in row.content
    assert ticket not in repr(row) + str(row)


def test_what_a_ticket_stands_for_is_not_shown(user: User) -> None:
    grant = unseal(seal(Grant(user="1", issued_at=0.0, session_key="the key", auth_hash="the hash"), "T"), "T")
    assert grant is not None
    assert grant.session_key == "the key"
    assert "the key" not in repr(grant)
    assert "the hash" not in repr(grant)


def test_whoever_can_write_into_the_table_makes_no_ticket(user: User, make_user: MakeUser, settings: Settings) -> None:
    good = issue_ticket(user)
    row = Ticket.objects.get()
    # The content of another ticket, a content of his own making, and none at all.
    forged = Grant(user=str(user.pk), issued_at=time.time())
    own_key = settings.SECRET_KEY
    settings.SECRET_KEY = "a key of the attacker's own, of any length"
    contents = [row.content, seal(forged, TICKET_KEY), "", "nonsense", "AAAA", "é"]
    settings.SECRET_KEY = own_key
    for content in contents[:2] + contents[3:]:
        Ticket.objects.create(digest=digest_of(TICKET_KEY), content=content, expires_at=row.expires_at)
        assert_refused(with_ticket(TICKET_KEY), "ticket_forged")
    assert redeemed(good).user == user


def test_a_signature_of_the_projects_for_another_purpose_is_no_ticket() -> None:
    signed = Signer().sign('{"user":"1","issued_at":0}')
    assert unseal(signed, TICKET_KEY) is None


# Where it is kept ----------------------------------------------------------------------------------------------------


class Shelf:
    """A store's own tickets, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, float]] = {}
        self.error: Exception | None = None

    def put_now(self, digest: str, content: str, lifetime: float) -> None:
        if self.error is not None:
            raise self.error
        self.kept[digest] = (content, lifetime)

    async def put(self, digest: str, content: str, lifetime: float) -> None:
        self.put_now(digest, content, lifetime)

    async def pop(self, digest: str) -> str | None:
        if self.error is not None:
            raise self.error
        return self.kept.pop(digest, (None, 0.0))[0]


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """The tickets of the store in use."""
    shelf = Shelf()
    monkeypatch.setattr(MemoryStore, "tickets", shelf, raising=False)
    return shelf


def test_a_store_that_keeps_tickets_keeps_them(user: User, shelf: Shelf) -> None:
    first, second = issue_ticket(user), async_to_sync(aissue_ticket)(user, lifetime=5)
    assert {digest: lifetime for digest, (_, lifetime) in shelf.kept.items()} == {
        digest_of(first): 30,
        digest_of(second): 5,
    }
    assert not Ticket.objects.exists()
    assert redeemed(first).user == redeemed(second).user == user
    assert_refused(with_ticket(first), "ticket_unknown")


@pytest.mark.parametrize("error", [Unavailable("away"), ConnectionError("away"), TimeoutError()])
def test_a_store_that_is_away_is_unavailable_and_never_asks_the_database(
    user: User, shelf: Shelf, error: Exception
) -> None:
    ticket = issue_ticket(user)
    shelf.error = error
    assert denial_of(authenticator, with_ticket(ticket)).reason is Reason.UNAVAILABLE
    with pytest.raises(Unavailable):
        issue_ticket(user)
    with pytest.raises(Unavailable):
        async_to_sync(aissue_ticket)(user)
    assert not Ticket.objects.exists()
    shelf.error = None
    assert redeemed(ticket).user == user


def test_a_database_that_is_away_is_unavailable(
    user: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ticket = issue_ticket(user)

    def fail(*_: Any) -> None:
        raise OperationalError("away")

    for name in ("_find", "_delete"):
        with monkeypatch.context() as broken, caplog.at_level(logging.ERROR, "channels_secure"):
            broken.setattr(shelves, name, fail)
            assert denial_of(authenticator, with_ticket(ticket)).reason is Reason.UNAVAILABLE
    assert [record.getMessage() for record in caplog.records] == ["tickets.unavailable"] * 2
    assert ticket not in caplog.text
    monkeypatch.setattr(shelves.DatabaseShelf, "put_now", fail)
    with pytest.raises(Unavailable):
        issue_ticket(user)


def test_a_ticket_belongs_to_the_callers_transaction(user: User) -> None:
    from django.db import transaction

    with transaction.atomic():
        ticket = issue_ticket(user)
        transaction.set_rollback(True)
    assert_refused(with_ticket(ticket), "ticket_unknown")


def test_expired_tickets_are_deleted_in_batches(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "BATCH", 2)
    for _ in range(5):
        issue_ticket(user)
    Ticket.objects.update(expires_at=timezone.now())
    kept = issue_ticket(user)
    assert [delete_expired() for _ in range(4)] == [2, 2, 1, 0]
    assert redeemed(kept).user == user


def test_the_memory_store_has_no_tickets_of_its_own() -> None:
    assert getattr(stores.get_store(), "tickets", None) is None
