"""`ws_disconnect` and `ws_revoke`, as a shell calls them."""

import sys
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from channels_secure.auth.base import digest_of
from channels_secure.management import selectors
from channels_secure.models import AuditEvent, Revocation

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, no_color=True)
    return out.getvalue()


def made() -> tuple[str, str, str, str]:
    row = Revocation.objects.get()
    return row.kind, row.subject, row.reason, row.actor


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO(text))


def test_sockets_of_a_user_are_ended(user: User) -> None:
    assert run("ws_disconnect", "--user", "alice") == "The sockets of alice end within a second.\n"
    assert made() == ("user", str(user.pk), "disconnected", "ws_disconnect")
    event = AuditEvent.objects.get()
    assert (event.kind, event.user, event.reason) == ("connection.disconnected", user, "disconnected")


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        (("--connection", "abc"), ("connection", "abc")),
        (("--ip", "192.0.2.1"), ("address", "192.0.2.1/32")),
        (("--ip", "127.0.0.1"), ("address", "127.0.0.1/32")),
        (("--ip", "2001:db8::1"), ("address", "2001:db8::/64")),
        (("--session", "the-key"), ("session", digest_of("the-key"))),
    ],
)
def test_other_sockets_are_ended(arguments: tuple[str, ...], subject: tuple[str, str]) -> None:
    run("ws_disconnect", *arguments, "--reason", "session_ended")
    assert made() == (*subject, "session_ended", "ws_disconnect")


def test_a_secret_need_not_be_an_argument(monkeypatch: pytest.MonkeyPatch, user: User) -> None:
    type_in(monkeypatch, "the-key\n")
    assert "the-key" not in run("ws_disconnect", "--session")
    assert made()[1] == digest_of("the-key")
    Revocation.objects.all().delete()
    token = AccessToken.for_user(user)
    type_in(monkeypatch, f"{token}\n")
    assert run("ws_revoke", "--token") == "The token is revoked.\n"
    assert made() == ("jti", token["jti"], "credentials_revoked", "ws_revoke")


def test_what_is_typed_into_a_terminal_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    asked: list[str] = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return "the-key"

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(selectors, "getpass", getpass)
    run("ws_disconnect", "--session")
    assert asked == ["Session key: "]
    assert made()[1] == digest_of("the-key")


def test_tokens_are_revoked_by_user_token_or_identifier(user: User) -> None:
    assert run("ws_revoke", "--user", "alice") == "The tokens of alice are revoked.\n"
    run("ws_revoke", "--jti", "an-id")
    token = AccessToken.for_user(user)
    run("ws_revoke", "--token", str(token))
    rows = Revocation.objects.order_by("id").values_list("kind", "subject", "actor")
    assert list(rows) == [
        ("user", str(user.pk), "ws_revoke"),
        ("jti", "an-id", "ws_revoke"),
        ("jti", token["jti"], "ws_revoke"),
    ]


def test_the_user_s_refresh_tokens_are_blacklisted_once(user: User) -> None:
    tokens = [RefreshToken.for_user(user) for _ in range(3)]
    run("ws_revoke", "--user", "alice")
    assert BlacklistedToken.objects.count() == 3
    assert AuditEvent.objects.get().detail == {"tokens": "all", "refresh_tokens": 3}
    run("ws_revoke", "--user", "alice")
    assert BlacklistedToken.objects.count() == len(tokens)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ws_disconnect",), "one of the arguments --user --connection --ip --session is required"),
        (("ws_disconnect", "--user", "alice", "--ip", "192.0.2.1"), "not allowed with argument"),
        (("ws_disconnect", "--user", "nobody"), "no user 'nobody'"),
        (("ws_disconnect", "--ip", "nonsense"), "is not an IP address"),
        (("ws_disconnect", "--ip", "0.0.0.0/0"), "too wide"),
        (("ws_disconnect", "--user", "alice", "--reason", "blocked"), "cannot be disconnected as"),
        (("ws_revoke",), "one of the arguments --user --token --jti is required"),
        (("ws_revoke", "--user", "nobody"), "no user 'nobody'"),
        (("ws_revoke", "--token", "nonsense"), "is not a JSON Web Token"),
        (("ws_revoke", "--jti", "x" * 256), "identifier"),
    ],
)
def test_a_mistake_is_told_in_plain_words(arguments: tuple[str, ...], said: str, user: User) -> None:
    with pytest.raises(CommandError, match=said):
        run(*arguments)
    assert not Revocation.objects.exists()
    assert not AuditEvent.objects.exists()


def test_without_simplejwt_the_command_says_what_to_install(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from channels_secure.revocation import tokens

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(tokens, "import_module", missing)
    with pytest.raises(CommandError, match="pip install"):
        run("ws_revoke", "--user", "alice")
