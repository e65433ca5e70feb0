"""Rows 36 to 39: upgrade requests that come with a ticket."""
# ruff: noqa: E501 - a table is read line by line

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from channels_secure.auth.base import digest_of
from channels_secure.policy.decisions import Reason
from tests.conformance.handshakes import bearer, case
from tests.conformance.table import EVERYWHERE, LET_IN, SERVERS, Driver, Request, Verdict, http, socket
from tests.conformance.world import World

INVALID = socket(Reason.INVALID_CREDENTIALS)
AMBIGUOUS = socket(Reason.AMBIGUOUS_CREDENTIALS)
SEVERAL = socket(Reason.BAD_REQUEST)
V1 = "channels-secure.v1"
TICKET = "channels-secure.ticket."


def at(ticket: str, path: str = "/typed/") -> str:
    return f"{path}?ticket={ticket}"


def ticket_case(
    name: str,
    row: int,
    given: str,
    make: Callable[[World], str],
    required: Verdict = INVALID,
    *,
    path: str = "/typed/",
    on: tuple[Driver, ...] = EVERYWHERE,
) -> None:
    case(f"ticket-{name}", row, given, lambda w: Request(path=at(make(w), path)), required, on)


# What opens -----------------------------------------------------------------------------------------------------------

ticket_case("valid", 36, "a ticket in the query", lambda w: w.ticket(), LET_IN)
case(
    "ticket-subprotocol", 36, "a ticket as a subprotocol beside channels-secure.v1",
    lambda w: Request(path="/typed/", subprotocols=(V1, TICKET + w.ticket())), Verdict(subprotocol=V1),
)  # fmt: skip
case(
    "ticket-no-origin", 36, "a ticket and no Origin",
    lambda w: Request(path=at(w.ticket()), origin=None), LET_IN,
)  # fmt: skip
case(
    "ticket-and-session", 36, "a ticket and a session of Alice",
    lambda w: Request(path=at(w.ticket()), cookies=w.session(w.alice)), LET_IN,
)  # fmt: skip
case(
    "ticket-and-stale-session", 36, "a ticket and a stale session",
    lambda w: Request(path=at(w.ticket()), cookies={"sessionid": "abcdefgh12345678abcdefgh12345678"}), LET_IN,
)  # fmt: skip
ticket_case("right-path", 38, "a ticket for this path", lambda w: w.ticket(path="/typed/"), LET_IN)
ticket_case("right-address", 38, "a ticket for this address", lambda w: w.ticket(ip="127.0.0.1"), LET_IN, on=SERVERS)
ticket_case("foreign", 36, "a ticket, to a consumer that is not ours", lambda w: w.ticket(), LET_IN, path="/foreign/")
ticket_case(
    "of-session", 39, "a ticket for a session that is still there",
    lambda w: w.ticket(session_key=w.session(w.alice)["sessionid"]), LET_IN,
)  # fmt: skip


# Once -----------------------------------------------------------------------------------------------------------------


def twice(
    first: Callable[[World], tuple[Request, Verdict]], then: Callable[[Request], Request]
) -> Callable[[World], Request]:
    """A request after another, which the ticket was in, too."""

    def made(world: World) -> Request:
        earlier, verdict = first(world)
        later = then(earlier)
        return Request(
            path=later.path, subprotocols=later.subprotocols, cookies=later.cookies, after=(earlier, verdict)
        )

    return made


def again(earlier: Request) -> Request:
    return earlier


def moved(earlier: Request) -> Request:
    """The same ticket, in the query of the path that it is for."""
    return Request(path=at(earlier.path.split("ticket=")[1]))


case(
    "ticket-used",
    36,
    "a ticket that has opened a socket",
    twice(lambda w: (Request(path=at(w.ticket())), LET_IN), again),
    INVALID,
)
case(
    "ticket-used-subprotocol", 36, "a ticket as a subprotocol that has opened a socket",
    twice(lambda w: (Request(path="/typed/", subprotocols=(V1, TICKET + w.ticket())), Verdict(subprotocol=V1)), again),
    Verdict(reason=Reason.INVALID_CREDENTIALS, told="socket", subprotocol=V1),
)  # fmt: skip
case(
    "ticket-used-open", 36, "a used ticket where everybody may enter",
    twice(lambda w: (Request(path=at(w.ticket(), "/open/")), LET_IN), again), INVALID,
)  # fmt: skip
case(
    "ticket-burnt-by-path", 38, "a ticket for this path that was tried at another",
    twice(lambda w: (Request(path=at(w.ticket(path="/typed/"), "/open/")), INVALID), moved), INVALID,
)  # fmt: skip
case(
    "ticket-burnt-by-session", 38, "a ticket that was tried beside a session of Bob",
    twice(lambda w: (Request(path=at(w.ticket()), cookies=w.session(w.bob)), AMBIGUOUS), moved), INVALID,
)  # fmt: skip
case(
    "ticket-kept-by-origin", 38, "a ticket that a foreign Origin came with before",
    twice(lambda w: (Request(path=at(w.ticket()), origin="https://evil.test"), http(Reason.ORIGIN_NOT_ALLOWED)), moved), LET_IN,
)  # fmt: skip


# What binds it --------------------------------------------------------------------------------------------------------


def bound(**options: Any) -> Callable[[World], str]:
    return lambda w: w.ticket(**options)


for number, path in enumerate(("/open/", "/typed", "/typed/x/", "/TYPED/", "/typed//", "/")):
    ticket_case(f"wrong-path-{number}", 38, f"a ticket for {path}, at /typed/", bound(path=path))
for number, ip in enumerate(("198.51.100.7", "127.0.0.2", "192.0.2.255", "2001:db8::1", "::1")):
    ticket_case(f"wrong-address-{number}", 38, f"a ticket for {ip}, from elsewhere", bound(ip=ip))
ticket_case("expired", 38, "a ticket that ended a millisecond ago", lambda w: w.expired_ticket())


# What is no ticket ----------------------------------------------------------------------------------------------------


def spoilt(change: Callable[[str], str]) -> Callable[[World], str]:
    return lambda w: quote(w.keep(change(w.ticket())), safe="")


def other(char: str) -> str:
    return "A" if char != "A" else "B"


ticket_case("first-changed", 38, "the first character changed", spoilt(lambda t: other(t[0]) + t[1:]))
# The last character of 43 carries four bits, so that another may decode to the same bytes.
ticket_case("last-changed", 38, "the last character changed", spoilt(lambda t: t[:-1] + other(t[-1])))
ticket_case("case-changed", 38, "letters in the other case", spoilt(str.swapcase))
ticket_case("short", 38, "the last character missing", spoilt(lambda t: t[:-1]))
ticket_case("long", 38, "a character more", spoilt(lambda t: t + "A"))
ticket_case("padded", 38, "a ticket with padding", spoilt(lambda t: t + "="))
ticket_case("space-before", 38, "a space before the ticket", spoilt(lambda t: " " + t))
ticket_case("newline-after", 38, "a newline after the ticket", spoilt(lambda t: t + "\n"))
ticket_case("nul-after", 38, "a NUL after the ticket", spoilt(lambda t: t + "\0"))
ticket_case("digest", 38, "what is stored in place of the ticket", spoilt(digest_of))
ticket_case("prefixed", 38, "the subprotocol's prefix before a ticket in the query", spoilt(lambda t: TICKET + t))
ticket_case("made-up", 38, "43 characters that nobody gave out", lambda w: w.keep("T" * 43))
ticket_case("empty", 38, "an empty ticket", lambda w: "")
ticket_case("word", 38, "a word", lambda w: "ticket")
ticket_case("non-ascii", 38, "43 bytes that are no ASCII", lambda w: "%FF" * 43)
ticket_case("wide-digits", 38, "43 digits that are no ASCII", lambda w: quote("\uff11" * 43))
ticket_case("token", 26, "an access token as a ticket", lambda w: w.token())
ticket_case(
    "10-kB",
    38,
    "a ticket of 10 kB",
    lambda w: w.keep("t" * 10_000),
    Verdict(reason=Reason.INVALID_CREDENTIALS, told="socket", or_server=True),
)
ticket_case("made-up-open", 23, "a made-up ticket where everybody may enter", lambda w: w.keep("T" * 43), path="/open/")
case(
    "ticket-made-up-session", 23, "a made-up ticket and a valid session",
    lambda w: Request(path=at(w.keep("T" * 43)), cookies=w.session(w.alice)), INVALID,
)  # fmt: skip
case(
    "ticket-made-up-token", 23, "a made-up ticket and a valid token",
    lambda w: Request(path=at(w.keep("T" * 43)), headers=bearer(w.token())), INVALID,
)  # fmt: skip
case(
    "ticket-subprotocol-empty", 38, "a subprotocol with an empty ticket",
    lambda w: Request(path="/typed/", subprotocols=(V1, TICKET)), Verdict(reason=Reason.INVALID_CREDENTIALS, told="socket", subprotocol=V1),
)  # fmt: skip
case(
    "ticket-as-bearer",
    26,
    "a ticket as a bearer token",
    lambda w: Request(path="/typed/", headers=bearer(w.ticket())),
    INVALID,
)
case(
    "ticket-as-bearer-subprotocol", 26, "a ticket as the subprotocol of a token",
    lambda w: Request(path="/typed/", subprotocols=(V1, f"channels-secure.bearer.{w.ticket()}")),
    Verdict(reason=Reason.INVALID_CREDENTIALS, told="socket", subprotocol=V1),
)  # fmt: skip


# Several --------------------------------------------------------------------------------------------------------------


def in_both(world: World, one: str, two: str) -> Request:
    return Request(path=at(one), subprotocols=(V1, TICKET + two))


SEVERAL_V1 = Verdict(reason=Reason.BAD_REQUEST, told="socket", subprotocol=V1)
case(
    "ticket-in-both-places",
    36,
    "two tickets, in the query and as a subprotocol",
    lambda w: in_both(w, w.ticket(), w.ticket()),
    SEVERAL_V1,
)
case(
    "ticket-same-in-both-places",
    36,
    "one ticket in both places",
    lambda w: in_both(w, (t := w.ticket()), t),
    SEVERAL_V1,
)
ticket_case("twice-in-query", 36, "two tickets in the query", lambda w: f"{w.ticket()}&ticket={w.ticket()}", SEVERAL)
case(
    "ticket-kept-by-several", 36, "a ticket that came twice in one request before",
    twice(lambda w: (Request(path=at(f"{(t := w.ticket())}&ticket={t}")), SEVERAL), lambda earlier: Request(path=earlier.path.rsplit("&")[0])), LET_IN,
)  # fmt: skip
case(
    "ticket-of-another-session", 22, "a ticket of Alice and a session of Bob",
    lambda w: Request(path=at(w.ticket()), cookies=w.session(w.bob)), AMBIGUOUS,
)  # fmt: skip
case(
    "ticket-of-another-token", 22, "a ticket of Alice and a token of Bob",
    lambda w: Request(path=at(w.ticket()), headers=bearer(w.token(w.bob))), AMBIGUOUS,
)  # fmt: skip


# What it was issued for is gone ---------------------------------------------------------------------------------------


def of_deleted(world: World) -> str:
    ticket = world.ticket(world.dave)
    world.delete_dave()
    return ticket


def of_inactive(world: World) -> str:
    visitor = world.visitor()
    ticket = world.ticket(visitor)
    visitor.is_active = False
    visitor.save()
    return ticket


def of_old_password(world: World) -> str:
    visitor = world.visitor()
    ticket = world.ticket(visitor)
    visitor.set_password("another horse")
    visitor.save()
    return ticket


def of_ended_session(world: World) -> str:
    from django.contrib.sessions.models import Session

    key = world.session(world.alice)["sessionid"]
    ticket = world.ticket(session_key=key)
    Session.objects.filter(session_key=key).delete()
    return ticket


ticket_case("user-deleted", 39, "the user was deleted meanwhile", of_deleted)
ticket_case("user-inactive", 39, "the user was deactivated meanwhile", of_inactive)
ticket_case("password-changed", 39, "the password was changed meanwhile", of_old_password)
ticket_case("session-ended", 39, "the session that it was issued for is gone", of_ended_session)
ticket_case(
    "session-of-another", 39, "a ticket of Alice for a session that Bob is logged in with",
    lambda w: w.ticket(session_key=w.session(w.bob)["sessionid"]),
)  # fmt: skip
