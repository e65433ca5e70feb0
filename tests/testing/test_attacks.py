"""The ready attacks: repelled by what is guarded, successful against what is not, and honest about the rest."""

import asyncio
import traceback
from typing import Any
from unittest import SkipTest

import pytest
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.auth.models import User
from django.test import override_settings
from django.urls import path

from channels_secure.consumers import SecureJsonConsumer
from channels_secure.testing import (
    Attack,
    AttackSucceeded,
    NotApplicable,
    SecureCommunicator,
    TargetUnfit,
    Verdict,
    attacks,
    guarded,
)
from tests.sockets import quiet  # noqa: F401
from tests.testing.targets import EXAMPLE, Chat, Echo, Naked, OpenChat, Secret

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]
BY_ID = {attack.id: attack for attack in attacks}
# Seconds that only a failure takes.
LONG = 20.0
# All that there is to attack is there.
STRICT: dict[str, Any] = {"REQUIRE_WSS": True, "TRUSTED_PROXIES": []}
SESSIONS, TICKETS, TOKENS = (
    "channels_secure.auth.session.SessionAuthenticator",
    "channels_secure.auth.tickets.TicketAuthenticator",
    "channels_secure.auth.jwt.JWTAuthenticator",
)
# What no browser can send, or Daphne does not hand over.
NOT_IN_A_BROWSER = {
    *("origin-missing", "origin-twice", "overloaded-request", "repeated-headers", "forged-address", "header-twins"),
    "frame-not-encrypted",
}
NOT_ON_DAPHNE = {"unencrypted", "repeated-headers", "header-twins", "frame-not-encrypted"}


def test_every_attack_says_what_it_is() -> None:
    assert len(BY_ID) == len(attacks) >= 40
    for attack in attacks:
        assert attack.id == str(attack) == attack.__name__
        assert "CWE-" in attack.rule
        assert attack.tries.endswith(".")
        assert attack.remedy


# Against what is guarded, and what is not ----------------------------------------------------------------------------


@pytest.mark.parametrize("attack", attacks)
async def test_a_guarded_consumer_repels_it(attack: Attack, user: User) -> None:
    consumer = Secret if attack.id == "frame-not-encrypted" else Chat
    with override_settings(CHANNELS_SECURE=STRICT):
        result = await attack.run(guarded(consumer.as_asgi()), "/ws/", user=user, message=EXAMPLE, patience=LONG)
    assert result.verdict is Verdict.REPELLED
    assert result.why


@pytest.mark.parametrize("attack", [attack for attack in attacks if attack.id != "frame-not-encrypted"])
async def test_a_plain_consumer_of_channels_does_not(attack: Attack, user: User) -> None:
    with override_settings(CHANNELS_SECURE=STRICT), pytest.raises(AttackSucceeded) as caught:
        await attack.run(Naked.as_asgi(), "/ws/", user=user, message=EXAMPLE, patience=0.1)
    words = str(caught.value)
    assert words.startswith(f"{attack.id}: got through at /ws/: ")
    assert attack.tries in words
    assert attack.rule in words
    assert attack.remedy in words


@pytest.mark.parametrize("attack", attacks)
async def test_what_does_not_apply_behind_daphne_or_in_a_browser_says_so(attack: Attack, user: User) -> None:
    for server, left_out in (("daphne", NOT_ON_DAPHNE), ("browser", NOT_IN_A_BROWSER)):
        proxies = ["203.0.113.0/24"] if server == "daphne" else []
        with override_settings(CHANNELS_SECURE={**STRICT, "TRUSTED_PROXIES": proxies}):
            how: dict[str, Any] = {"user": user, "message": EXAMPLE, "server": server, "patience": LONG}
            result = await attack.attempt(guarded(Chat.as_asgi()), "/ws/", **how)
        expected = Verdict.NOT_APPLICABLE if attack.id in left_out else Verdict.REPELLED
        assert result.verdict is expected, f"{server}: {result}"


# Whatever the settings -----------------------------------------------------------------------------------------------


class Slow(Chat):
    """One message a second, and greetings that nobody asked for."""

    message_rates = {"connection": "1/s"}
    send_hello = True

    async def connect(self) -> None:
        await self.accept()
        await self.send_json({"type": "greeting"})


class Small(OpenChat):
    max_message_size = 300
    max_message_depth = 2
    error_budget = "3/m"


# What needs one kind of credential.
SESSION = {"session-made-up", "session-of-deactivated-user", "session-of-old-password", "open-socket-logged-out"}
TICKET = {"ticket-replay", "ticket-made-up", "ticket-of-deactivated-user"}
TOKEN = {attack.id for attack in attacks if attack.id.startswith("token-")} - {"token-in-query"}
TOKEN |= {"open-socket-forged-refresh"}
UNTYPED = {"frame-unknown-type", "frame-inherited-name", "open-socket-forged-refresh"}
FLOODS = {
    *("message-flood", "nonsense-flood", "mass-connections", "handshake-flood", "forged-address", "header-twins"),
}
# Fewer handshakes than the defaults allow.
QUICK: dict[str, Any] = {"HANDSHAKE_RATES": {"ip": "6/m", "user": "5/m"}, "REQUIRE_WSS": True}
PLAIN = {"frame-not-encrypted"}
FRAMES = {attack.id for attack in attacks if attack.id.startswith("frame-")}
SETUPS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "sessions only, by http": ({"AUTHENTICATORS": [SESSIONS], "REJECTION": "http"}, TOKEN | TICKET),
    "tokens only, newest first": (
        {"AUTHENTICATORS": [TOKENS], "CONNECTION_OVERFLOW": "close_oldest"},
        SESSION | TICKET | {"origin-missing"},
    ),
    "tokens by subprotocol, subdomains": (
        {
            "AUTHENTICATORS": [TOKENS],
            "TOKEN_SOURCES": ["subprotocol"],
            "ALLOWED_ORIGINS": ["https://*.example.com"],
            "ALLOW_MISSING_ORIGIN": "never",
        },
        SESSION | TICKET,
    ),
    "tokens in a cookie": ({"AUTHENTICATORS": [TOKENS], "TOKEN_SOURCES": ["cookie"]}, SESSION | TICKET),
    "tokens in the query": (
        {"AUTHENTICATORS": [TOKENS], "TOKEN_SOURCES": ["query"], "REQUIRE_WSS": False},
        SESSION | TICKET | {"origin-missing", "token-in-query", "unencrypted"},
    ),
    "tickets only": ({"AUTHENTICATORS": [TICKETS]}, SESSION | TOKEN | {"origin-missing"}),
    "a proxy that is counted": ({"TRUSTED_PROXY_COUNT": 1}, {"unencrypted"}),
    "two proxies, missing origins": (
        {"TRUSTED_PROXY_COUNT": 2, "ALLOW_MISSING_ORIGIN": "always"},
        {"unencrypted", "origin-missing"},
    ),
}


@pytest.mark.parametrize(("changes", "left_out"), SETUPS.values(), ids=SETUPS)
async def test_whatever_the_settings_no_attack_gets_through_and_what_does_not_apply_says_so(
    changes: dict[str, Any], left_out: set[str], user: User
) -> None:
    for attack in (each for each in attacks if each.id not in FRAMES):
        with override_settings(CHANNELS_SECURE={**QUICK, **changes}):
            result = await attack.attempt(guarded(Chat.as_asgi()), "/ws/", user=user, patience=LONG)
        assert result.verdict is (Verdict.NOT_APPLICABLE if attack.id in left_out else Verdict.REPELLED), result


CONSUMERS: dict[str, tuple[type, set[str]]] = {
    "drop-in": (Echo, UNTYPED | PLAIN),
    "drop-in with controls": (type("Controlled", (Echo,), {"control_frames": True}), UNTYPED | PLAIN),
    "greets, and is slow": (Slow, PLAIN),
    "everybody, and small": (Small, {"not-logged-in"} | PLAIN),
    "encrypted": (Secret, set()),
}


@pytest.mark.parametrize(("consumer", "left_out"), CONSUMERS.values(), ids=CONSUMERS)
async def test_whatever_the_consumer_no_attack_gets_through_and_what_does_not_apply_says_so(
    consumer: Any, left_out: set[str], user: User
) -> None:
    for name in (*FRAMES, "message-flood", "nonsense-flood", "open-socket-forged-refresh", "not-logged-in"):
        with override_settings(CHANNELS_SECURE=QUICK):
            how: dict[str, Any] = {"user": user, "message": EXAMPLE, "patience": LONG}
            result = await BY_ID[name].attempt(guarded(consumer.as_asgi()), "/ws/", **how)
        assert result.verdict is (Verdict.NOT_APPLICABLE if name in left_out else Verdict.REPELLED), result


OFF = {
    "HANDSHAKE_RATES": {"ip": None, "user": None},
    "MAX_CONNECTIONS": {"ip": None, "user": None},
    "MESSAGE_RATES": {"connection": None, "user": None},
    "ERROR_BUDGET": None,
}
WIDE = {
    "HANDSHAKE_RATES": {"ip": "9999/s", "user": "9999/s"},
    "MAX_CONNECTIONS": {"ip": 9999, "user": 9999},
    "MESSAGE_RATES": {"connection": "9999/s", "user": "9999/s"},
    "ERROR_BUDGET": "9999/s",
}


@pytest.mark.parametrize(("limits", "why"), [(OFF, "sets no limit"), (WIDE, "more than is tried")])
async def test_limits_that_are_off_or_too_wide_to_be_reached_cannot_be_attacked(
    limits: dict[str, Any], why: str, user: User
) -> None:
    for name in FLOODS:
        with override_settings(CHANNELS_SECURE=limits), pytest.raises(NotApplicable, match=why):
            await BY_ID[name].run(guarded(Chat.as_asgi()), "/ws/", user=user)


async def test_report_mode_lets_through_what_it_only_reports(user: User) -> None:
    with override_settings(CHANNELS_SECURE={"MODE": "report"}):
        for name in ("cross-site-hijack", "frame-oversize", "mass-connections"):
            result = await BY_ID[name].attempt(guarded(Chat.as_asgi()), "/ws/", user=user, patience=0.1)
            assert result.verdict is Verdict.GOT_THROUGH
        result = await BY_ID["token-alg-none"].attempt(guarded(Chat.as_asgi()), "/ws/", user=user)
        assert result.verdict is Verdict.REPELLED


async def test_without_a_user_only_what_needs_none_is_tried() -> None:
    app = guarded(OpenChat.as_asgi())
    assert (await BY_ID["cross-site-hijack"].run(app, "/ws/")).verdict is Verdict.REPELLED
    assert (await BY_ID["frame-not-json"].run(app, "/ws/")).verdict is Verdict.REPELLED
    for name in ("session-made-up", "token-expired", "ticket-replay", "open-socket-deactivated"):
        with pytest.raises(NotApplicable, match="no user= was given"):
            await BY_ID[name].run(app, "/ws/")


async def test_what_does_not_apply_is_skipped_by_test_runners(user: User) -> None:
    with pytest.raises(SkipTest, match="unencrypted: not applicable at /ws/: REQUIRE_WSS is off"):
        await BY_ID["unencrypted"].run(guarded(Chat.as_asgi()), "/ws/", user=user)


# Where nothing can be learnt -----------------------------------------------------------------------------------------


class ForStaff(Chat):
    async def authorize(self) -> bool:
        return bool(self.scope["user"].is_staff)


class Crashing(Chat):
    async def connect(self) -> None:
        raise LookupError("asked to fail")


async def silent(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


UNFIT: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no route": (URLRouter([path("chat/", Chat.as_asgi())]), {}, "not even alice is let in at /ws/.* not_found"),
    "no permission": (ForStaff.as_asgi(), {}, "not even alice .* permission_denied"),
    "a crash": (Crashing.as_asgi(), {}, "/ws/, without any attack: the application crashed: .*internal_error"),
    "nobody": (Chat.as_asgi(), {"user": None}, "nobody is let in at /ws/.* unauthenticated"),
    "its message is refused": (
        Chat.as_asgi(),
        {"message": {"type": "chat.shout"}},
        "the message that was given is refused itself: .*unknown_type",
    ),
}


@pytest.mark.parametrize(("consumer", "options", "words"), UNFIT.values(), ids=UNFIT)
async def test_a_target_that_lets_nobody_in_fails_because_nothing_was_learnt(
    consumer: Any, options: dict[str, Any], words: str, user: User
) -> None:
    with pytest.raises(TargetUnfit, match=words):
        await BY_ID["frame-not-json"].run(guarded(consumer), "/ws/", **{"user": user, **options})


async def test_a_target_that_is_away_or_silent_fails_because_nothing_was_learnt(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SecureCommunicator.shake_hands, "__defaults__", (0.05,))
    with pytest.raises(TargetUnfit, match="/ws/ gives no answer to a handshake"):
        await BY_ID["cross-site-hijack"].run(silent, "/ws/", user=user)


def is_evil(consumer: Any) -> bool:
    return b"https://evil.example" in dict(consumer.scope["headers"]).values()


async def test_an_application_that_crashes_over_an_attack_has_not_repelled_it(user: User) -> None:
    class CrashingOverStrangers(AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            if is_evil(self):
                raise LookupError("asked to fail")
            await self.accept()

    with pytest.raises(AttackSucceeded, match=r"the application crashed: .*HTTP 500"):
        await BY_ID["cross-site-hijack"].run(CrashingOverStrangers.as_asgi(), "/ws/", user=user)


async def test_a_consumer_that_refuses_after_accepting_has_refused(user: User) -> None:
    class Polite(AsyncJsonWebsocketConsumer):
        """Accepts, so that a browser sees the code, and closes at once."""

        async def connect(self) -> None:
            await self.accept()
            if is_evil(self):
                await self.close(4403)

    result = await BY_ID["cross-site-hijack"].run(Polite.as_asgi(), "/ws/", user=user)
    assert "4403" in result.why


async def test_an_attack_leaves_the_user_as_it_was(user: User) -> None:
    for name in ("session-of-deactivated-user", "session-of-old-password", "open-socket-deactivated"):
        await BY_ID[name].attempt(Naked.as_asgi(), "/ws/", user=user, patience=0.01)
    after = await User.objects.aget(pk=user.pk)
    assert after.is_active
    assert after.password == user.password


async def test_an_attack_spends_nothing_of_the_next_one(user: User) -> None:
    for _ in range(3):
        await BY_ID["handshake-flood"].run(guarded(Chat.as_asgi()), "/ws/", user=user)


async def test_options_are_those_of_every_client(user: User) -> None:
    class OnlyNews(AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            if "news.v2" in self.scope["subprotocols"] and dict(self.scope["headers"]).get(b"x-app") == b"1":
                await self.accept("news.v2")
            else:
                await self.close()

    options: dict[str, Any] = {"subprotocols": ["news.v2"], "headers": [(b"x-app", b"1")]}
    for name in ("cross-site-hijack", "forged-address"):
        result = await BY_ID[name].run(guarded(OnlyNews.as_asgi()), "/ws/", user=user, **options)
        assert result.verdict is Verdict.REPELLED
    with pytest.raises(TargetUnfit):
        await BY_ID["cross-site-hijack"].run(guarded(OnlyNews.as_asgi()), "/ws/", user=user)


# What a project's own code may do wrong ------------------------------------------------------------------------------


class OwnDispatch(SecureJsonConsumer):
    """Takes every JSON value, and lets the client name the method."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await getattr(self, content["type"])(content)


class Talkative(SecureJsonConsumer):
    """Takes every JSON value, and shows the client what went wrong."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        try:
            await self.send_json(content["no such key"])
        except LookupError:
            await self.send_json({"type": "oops", "why": traceback.format_exc()})


@pytest.mark.parametrize("name", sorted(UNTYPED - TOKEN))
@pytest.mark.parametrize(
    ("consumer", "why"), [(OwnDispatch, "it reached code that crashed"), (Talkative, "answered with a traceback")]
)
async def test_what_takes_every_value_must_not_crash_or_tell_too_much(
    consumer: Any, why: str, name: str, user: User
) -> None:
    result = await BY_ID[name].attempt(guarded(consumer.as_asgi()), "/ws/", user=user, patience=LONG)
    assert result.verdict is Verdict.GOT_THROUGH
    assert why in result.why


async def test_a_size_that_nobody_should_allow_is_not_tried(user: User) -> None:
    class Huge(Chat):
        max_message_size = 2 << 30

    app = guarded(Huge.as_asgi())
    with pytest.raises(NotApplicable, match=f"MAX_MESSAGE_SIZE allows {2 << 30}, more than is tried"):
        await BY_ID["frame-oversize"].run(app, "/ws/", user=user)
    assert (await BY_ID["frame-deep-nesting"].run(app, "/ws/", user=user)).verdict is Verdict.REPELLED


# Channels' own stack -------------------------------------------------------------------------------------------------


async def test_what_channels_own_stack_repels_and_what_it_does_not(user: User) -> None:
    class OnlyUsers(Naked):
        async def connect(self) -> None:
            await (self.accept() if self.scope["user"].is_authenticated else self.close())

    app = AllowedHostsOriginValidator(AuthMiddlewareStack(OnlyUsers.as_asgi()))
    with override_settings(CHANNELS_SECURE=QUICK):
        results = [await attack.attempt(app, "/ws/", user=user, patience=0.05) for attack in attacks]
    repelled = {result.attack.id for result in results if result.verdict is Verdict.REPELLED}
    assert repelled == {
        *("cross-site-hijack", "origin-null", "origin-missing", "not-logged-in", "session-made-up"),
        *("session-of-deactivated-user", "session-of-old-password"),
    }
