"""The story of an event: a sentence for every kind and reason, in which nothing from outside is more than text."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from channels_secure.admin import kinds
from channels_secure.admin.reasons import WHY
from channels_secure.admin.story import Story, tell
from channels_secure.models import AuditEvent
from channels_secure.policy.decisions import RULES, Reason
from channels_secure.rooms.roles import Act

Kind = AuditEvent.Kind
MOMENT = datetime(2026, 3, 5, 9, 41, 7, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>{who}%s%(x)s{}"
TEXTS = ("reason", "username", "user_key", "ip", "path", "origin", "user_agent", "connection_id", "actor", "actor_from")


def story(kind: str, reason: str = "", **facts: Any) -> Story:
    facts = {"created_at": MOMENT, "last_at": facts.get("created_at", MOMENT), **facts}
    return tell(AuditEvent(kind=kind, reason=reason, **facts))


def plain(kind: str, reason: str = "", **facts: Any) -> str:
    """The sentence as people read it."""
    return re.sub(r"</?bdi[^>]*>", "", story(kind, reason, **facts).sentence)


FACTS: dict[str, Any] = {
    "username": "alice",
    "ip": "203.0.113.7",
    "path": "/ws/chat/",
    "origin": "https://evil.example",
    "connection_id": "c1",
    "actor": "root",
    "actor_from": "192.0.2.99",
    "detail": {"credentials": "session", "store": "database", "format": "csv", "rows": 3, "days": 90, "events": 5},
}


@pytest.mark.parametrize("facts", [FACTS, {}], ids=["everything", "nothing"])
@pytest.mark.parametrize("count", [1, 17])
@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_a_sentence_and_advice(kind: str, count: int, facts: dict[str, Any]) -> None:
    told = story(kind, count=count, last_at=MOMENT + timedelta(seconds=9), **facts)
    sentence = re.sub(r"</?bdi[^>]*>", "", told.sentence)
    assert re.fullmatch(r"[A-Za-z].{15,}\.", sentence)
    assert not re.search(r"[{}<>]|  |None| \.", sentence)
    assert ("17 times on March 5, 2026 between 09:41:07 and 09:41:16" in sentence) is (count == 17)
    assert ("on March 5, 2026 at 09:41:07" in sentence) is (count == 1)
    assert told.operator.endswith(".")


@pytest.mark.parametrize("kind", list(kinds.REFUSED))
@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_clause_and_advice_for_both(reason: Reason, kind: str) -> None:
    told = story(kind, reason, **FACTS)
    sentence = re.sub(r"</?bdi[^>]*>", "", told.sentence)
    assert re.search(r"\bbecause [a-z].+[^.]\.$", sentence)
    assert not re.search(r"[{}<>]|  |None", sentence)
    assert told.operator.endswith(".")
    assert told.developer.endswith(".")
    assert (told.reason, told.rule) == (reason, RULES[reason])


def test_no_two_reasons_are_told_alike() -> None:
    assert len({str(why.clause) for why in WHY.values()}) == len(Reason)


SENTENCES: list[tuple[str, str, dict[str, Any], str]] = [
    (
        Kind.HANDSHAKE_DENIED,
        "origin_not_allowed",
        {"username": "alice", "origin": "https://evil.example"},
        (
            "alice was refused on March 5, 2026 at 09:41:07 because the page at https://evil.example may not open"
            " sockets here."
        ),
    ),
    (
        Kind.HANDSHAKE_DENIED,
        "rate_limited",
        {"ip": "203.0.113.7", "count": 1700, "last_at": MOMENT + timedelta(seconds=50)},
        (
            "Somebody at 203.0.113.7 was refused 1,700 times on March 5, 2026 between 09:41:07 and 09:41:57 because"
            " attempts to connect came faster than the rate limit allows."
        ),
    ),
    (
        Kind.HANDSHAKE_DENIED,
        "rate_limited",
        {"username": "alice", "detail": {"at": "ticket", "detail": "ticket"}},
        (
            "alice was refused a ticket on March 5, 2026 at 09:41:07 because orders of tickets came faster than the"
            " rate limit allows."
        ),
    ),
    (
        Kind.HANDSHAKE_DENIED,
        "blocked",
        {"ip": "203.0.113.7", "detail": {"detail": "address is blocked"}},
        "Somebody at 203.0.113.7 was refused on March 5, 2026 at 09:41:07 because the address was blocked.",
    ),
    (
        Kind.HANDSHAKE_DENIED,
        "",
        {"ip": "203.0.113.7", "detail": {"detail": "the peer left"}},
        (
            "Somebody at 203.0.113.7 left on March 5, 2026 at 09:41:07 before the handshake was decided: nobody refused"
            " it."
        ),
    ),
    (
        Kind.MESSAGE_DENIED,
        "rate_limited",
        {"detail": {"sum": "kind and reason"}, "count": 2, "last_at": MOMENT + timedelta(days=1)},
        (
            "Several clients had a message refused 2 times between March 5, 2026, 09:41:07 and March 6, 2026,"
            " 09:41:07 because messages came faster than the rate limit allows."
        ),
    ),
    (
        Kind.CONNECTION_ACCEPTED,
        "",
        {"username": "alice", "ip": "203.0.113.7", "path": "/ws/chat/", "detail": {"credentials": "jwt"}},
        "alice (from 203.0.113.7) connected to /ws/chat/ on March 5, 2026 at 09:41:07 with a token.",
    ),
    (
        Kind.CONNECTION_CLOSED,
        "",
        {"username": "alice", "path": "/ws/chat/", "detail": {"by": "client"}},
        "alice closed the connection to /ws/chat/ on March 5, 2026 at 09:41:07.",
    ),
    (
        Kind.BLOCK_CREATED,
        "Floods the lobby",
        {"username": "bob", "actor": "root", "detail": {"automatic": False, "expires_at": "2026-03-06T09:41:07Z"}},
        (
            "root blocked bob on March 5, 2026 at 09:41:07 until March 6, 2026, 09:41:07, for this reason: “Floods the"
            " lobby”."
        ),
    ),
    (
        Kind.BLOCK_CREATED,
        "",
        {"ip": "203.0.113.0/24", "actor": "root", "actor_from": "192.0.2.99", "detail": {"expires_at": None}},
        "root (from 192.0.2.99) blocked 203.0.113.0/24 on March 5, 2026 at 09:41:07 for ever.",
    ),
    (
        Kind.BLOCK_CREATED,
        "too many violations",
        {"username": "bob", "detail": {"automatic": True, "expires_at": "2026-03-05T10:41:07Z"}},
        (
            "The server blocked bob on March 5, 2026 at 09:41:07 until March 5, 2026, 10:41:07 by itself, for this"
            " reason: “too many violations”."
        ),
    ),
    (
        Kind.CONNECTION_DISCONNECTED,
        "disconnected",
        {"connection_id": "c1", "actor": "root"},
        "root disconnected the connection c1 on March 5, 2026 at 09:41:07, for this reason: “disconnected”.",
    ),
    (
        Kind.TOKENS_REVOKED,
        "",
        {"username": "bob", "actor": "root", "detail": {"tokens": "all"}},
        "root revoked all tokens of bob on March 5, 2026 at 09:41:07.",
    ),
    (
        Kind.AUDIT_EXPORTED,
        "",
        {"actor": "root", "detail": {"format": "csv", "rows": 1}},
        "root exported 1 row of the audit trail as CSV on March 5, 2026 at 09:41:07.",
    ),
    (
        Kind.STORE_DEGRADED,
        "",
        {"detail": {"store": "RedisStore", "error": "ConnectionError"}},
        "The Redis store could not be reached or used on March 5, 2026 at 09:41:07 (ConnectionError).",
    ),
]


@pytest.mark.parametrize(("kind", "reason", "facts", "sentence"), SENTENCES, ids=lambda value: str(value)[:30])
def test_what_is_said(kind: str, reason: str, facts: dict[str, Any], sentence: str) -> None:
    assert plain(kind, reason, **facts) == sentence


ROOM = {**FACTS, "detail": {"room": "lobby", "role": "moderator"}}


@pytest.mark.parametrize("facts", [ROOM, {}], ids=["everything", "nothing"])
@pytest.mark.parametrize("act", [*Act, *(act for act in kinds.ROOM_ACTS if act not in set(Act))])
def test_every_act_in_a_room_has_a_sentence(act: str, facts: dict[str, Any]) -> None:
    sentence = plain(Kind.ROOM_MODERATED, act, **facts)
    assert re.fullmatch(r"[A-Za-z].{15,}\.", sentence)
    assert not re.search(r"[{}<>]|  |None| \.", sentence)
    assert f"“{act}”" not in sentence, "the word of the wire is no sentence"
    assert ("lobby" in sentence) is (bool(facts) and not act.startswith("key_"))


def test_a_key_that_is_replaced_is_a_reason_to_ask() -> None:
    assert "ask the user" in story(Kind.ROOM_MODERATED, "key_replaced", **ROOM).operator
    assert "ask the user" not in story(Kind.ROOM_MODERATED, "key_published", **ROOM).operator


def test_an_act_that_an_application_calls_its_own_is_quoted() -> None:
    assert "“tickled”" in plain(Kind.ROOM_MODERATED, "tickled", **ROOM)


def test_today_and_yesterday_are_called_so() -> None:
    now = timezone.now()
    today, yesterday = (plain(Kind.TICKET_ISSUED, created_at=now - timedelta(days=days)) for days in (0, 1))
    assert " today at " in today
    assert " yesterday at " in yesterday


def test_the_end_of_a_connection_tells_how_it_was() -> None:
    course = {"by": "client", "duration": 192.2, "received": 58, "sent": 61}
    (said,) = story(Kind.CONNECTION_CLOSED, detail=course).more
    assert said == "It had lasted 3 minutes; messages received: 58, sent: 61."


def test_what_the_server_noted_is_told_unless_it_says_nothing_new() -> None:
    assert story(Kind.CREDENTIALS_FAILED, "invalid_credentials", detail={"detail": "user_inactive"}).more == (
        "The server noted: “user_inactive”.",
    )
    origin = "https://evil.example"
    assert story(Kind.HANDSHAKE_DENIED, "origin_not_allowed", origin=origin, detail={"detail": origin}).more == ()


@pytest.mark.parametrize("kind", [*Kind, "something.else"])
def test_nothing_from_outside_is_more_than_text(kind: str) -> None:
    facts: dict[str, Any] = dict.fromkeys(TEXTS, HOSTILE)
    names = ("detail", "by", "credentials", "path", "expires_at", "store", "error", "format", "sum", "session", "at")
    for reason in (HOSTILE, *Reason):
        told = story(kind, **{**facts, "reason": reason, "detail": dict.fromkeys(names, HOSTILE)})
        assert "<script>" not in told.sentence
        assert not re.search(r"<(?!/?bdi\b)", told.sentence)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    "detail", [None, [], "text", 5, {"rows": float("inf"), "duration": "x", "automatic": 1, "by": [], "days": True}]
)
def test_a_detail_that_somebody_has_spoilt_breaks_nothing(kind: str, detail: Any) -> None:
    assert plain(kind, "rate_limited", detail=detail).endswith(".")


def test_an_operators_words_are_no_reason_of_the_package() -> None:
    assert story(Kind.BLOCK_CREATED, "rate_limited").reason is None
    assert story(Kind.HANDSHAKE_DENIED, "an old reason").reason is None
