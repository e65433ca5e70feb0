"""Rows 42 to 44: a newer access token on an open socket."""

import json
import time
from collections.abc import Callable
from typing import Any

from channels_secure.policy.decisions import Reason
from tests.conformance.handshakes import bearer
from tests.conformance.table import Answer, Refresh, Request, add
from tests.conformance.world import World

REFRESHED = Answer()
INVALID = Answer(error=Reason.INVALID_CREDENTIALS, ref="r")
MALFORMED = Answer(error=Reason.INVALID_MESSAGE)
CLOSED = Answer(close=Reason.INVALID_CREDENTIALS)


def with_token(world: World) -> Request:
    return Request(path="/open/", headers=bearer(world.token()))


def with_session(world: World) -> Request:
    return Request(path="/open/", cookies=world.session(world.alice))


def with_ticket(world: World) -> Request:
    return Request(path=f"/open/?ticket={world.ticket(expires_at=time.time() + 300)}")


def framed(text: Callable[[World], str], name: str, row: int, given: str, required: Answer, **more: Any) -> None:
    more.setdefault("opened", with_token)
    add(Refresh(id=f"refresh-{name}", row=row, given=given, frame=text, required=required, **more))


def refresh(
    name: str, row: int, given: str, token: Callable[[World], Any], required: Answer = INVALID, **more: Any
) -> None:
    def text(world: World) -> str:
        return json.dumps({"type": "refresh_token", "id": "r", "token": token(world)})

    framed(text, name, row, given, required, **more)


def constant(value: Any) -> Callable[[World], Any]:
    return lambda w: value


def soon(seconds: float) -> int:
    return int(time.time() + seconds)


# The same user --------------------------------------------------------------------------------------------------------

refresh("valid", 42, "a newer token of the same user", lambda w: w.token(exp=soon(900)), REFRESHED, lasts=900)
refresh("shorter", 42, "a token that ends earlier", lambda w: w.token(exp=soon(60)), REFRESHED, lasts=60)
refresh(
    "ticket-opened",
    42,
    "a token on a socket that a ticket opened",
    lambda w: w.token(exp=soon(900)),
    REFRESHED,
    lasts=900,
    opened=with_ticket,
)
refresh(
    "session-opened",
    42,
    "a token on a socket that a session opened",
    lambda w: w.token(),
    REFRESHED,
    opened=with_session,
)


# Nobody else's --------------------------------------------------------------------------------------------------------

refresh("other-user", 42, "a valid token of another user", lambda w: w.token(w.bob), CLOSED)
refresh(
    "other-user-session",
    42,
    "the same on a socket that a session opened",
    lambda w: w.token(w.bob),
    CLOSED,
    opened=with_session,
)
refresh(
    "other-user-ticket",
    42,
    "the same on a socket that a ticket opened",
    lambda w: w.token(w.bob),
    CLOSED,
    opened=with_ticket,
)
refresh(
    "anonymous",
    42,
    "a valid token on a socket of nobody",
    lambda w: w.token(),
    CLOSED,
    opened=lambda w: Request(path="/open/"),
)
refresh("inactive-user", 42, "a token of an inactive user", lambda w: w.token(w.carol))
refresh("unknown-user", 42, "a token of a user who does not exist", lambda w: w.token(user_id="987654321"))


# Bad tokens -----------------------------------------------------------------------------------------------------------

refresh("key-wrong", 42, "signed with another key", lambda w: w.token(key="k" * 40))
refresh("other-user-key-wrong", 42, "another user's, signed with another key", lambda w: w.token(w.bob, key="k" * 40))
refresh("alg-none", 42, "alg none", lambda w: w.forge({"alg": "none", "typ": "JWT"}, w.claims(w.alice)))
refresh("refresh-token", 42, "a refresh token", lambda w: w.token(token_type="refresh"))
refresh("ticket", 42, "a ticket", lambda w: w.ticket())
refresh("user-id-true", 42, "validly signed, user_id is true", lambda w: w.token(user_id=True))
refresh(
    "expired",
    42,
    "an expired token",
    lambda w: w.token(exp=soon(-10)),
    Answer(error=Reason.CREDENTIALS_EXPIRED, ref="r"),
)
refresh("nbf-future", 42, "not yet valid (nbf)", lambda w: w.token(nbf=soon(3600)))
refresh("9-kB", 42, "a token of 9 kB", lambda w: w.keep("a" * 3000 + "." + "b" * 3000 + "." + "c" * 3000))
refresh("empty", 42, "an empty token", lambda w: "")
refresh("word", 42, "a word", lambda w: "token")
refresh("bearer", 42, "Bearer and a valid token", lambda w: f"Bearer {w.token()}")
refresh("spaces", 42, "a valid token between spaces", lambda w: f" {w.token()} ")
refresh("non-ascii", 42, "a token that is no ASCII", lambda w: "é.é.é")


# Bad frames -----------------------------------------------------------------------------------------------------------

for name, given, token in (
    ("number", "a number", 5),
    ("null", "null", None),
    ("list", "a list", ["a.b.c"]),
    ("object", "an object", {"access": "a.b.c"}),
    ("nul", "text with a NUL", "a.b.c\0"),
):
    refresh(name, 42, f"the token is {given}", constant(token), MALFORMED)
framed(lambda w: '{"type":"refresh_token","id":"r"}', "missing", 42, "no token at all", MALFORMED)
framed(
    lambda w: json.dumps({"type": "refresh_token", "token": w.token(), "user": "bob"}),
    "unknown-field", 42, "a member that nobody declared", MALFORMED,
)  # fmt: skip
framed(
    lambda w: f'{{"type":"refresh_token","token":"{w.token()}","token":"{w.token(w.bob)}"}}',
    "duplicate", 42, "two tokens, under one name", MALFORMED,
)  # fmt: skip


# Too often ------------------------------------------------------------------------------------------------------------

LIMITED = Answer(error=Reason.RATE_LIMITED, ref="r")
refresh("too-often", 44, "a seventh valid token within a minute", lambda w: w.token(), LIMITED, earlier=6)
refresh(
    "too-often-wrong", 44, "a seventh wrong token within a minute", lambda w: w.token(key="k" * 40), LIMITED, earlier=6
)
