"""The browser's client in Chromium, under servers that restart, refuse, expire, block and limit."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from channels_secure.lifespan import COME_BACK
from tests.browser.client_site import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, People, Signals, Site, Tab, people_of
from tests.browser.driver import Browser
from tests.browser.example import copy_database
from tests.live.servers import KINDS, ServerKind

pytestmark = pytest.mark.browser

OPEN = "client.state === 'open'"
TICKET = "{ticket: '/ws-auth/ticket/'}"
TOKEN = "{token: ({refresh}) => mint(refresh)}"
rooms = (f"/ws/room-{number}/" for number in itertools.count())

# What the server has little part in.
on_daphne, on_uvicorn = (pytest.mark.parametrize("shared_site", [kind], indirect=True) for kind in KINDS)

OpenTab = Callable[..., Tab]


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, People]:
    database = tmp_path_factory.mktemp("client") / "db.sqlite3"
    return database, people_of(database)


@contextlib.contextmanager
def running_site(kind: ServerKind, seed: tuple[Path, People], directory: Path) -> Iterator[Site]:
    database, people = seed
    site = Site(
        kind=kind,
        database=copy_database(database, directory / "db.sqlite3"),
        log=directory / "server.log",
        people=people,
    )
    try:
        site.start()
        yield site
    finally:
        site.stop()
    assert site.complaints() == []


@pytest.fixture(scope="module", params=KINDS)
def shared_site(
    request: pytest.FixtureRequest, seed: tuple[Path, People], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """For tests that leave the server alone; each comes as a user of its own, where it leaves traces."""
    with running_site(request.param, seed, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(kind: ServerKind, seed: tuple[Path, People], tmp_path: Path) -> Iterator[Site]:
    with running_site(kind, seed, tmp_path) as site:
        yield site


@pytest.fixture
def tab(browser: Browser) -> Iterator[OpenTab]:
    """Open pages; none of them may raise anything."""
    tabs: list[Tab] = []

    def open_tab(site: Site, username: str | None = "alice") -> Tab:
        tabs.append(Tab.open(browser, site, username))
        return tabs[-1]

    yield open_tab
    for each in tabs:
        each.context.close()
    assert [error for each in tabs for error in each.raised] == []


def minted(site: Site, username: str, seconds: float) -> str:
    from rest_framework_simplejwt.tokens import AccessToken

    token = AccessToken()
    token["user_id"] = str(site.people[username].pk)
    token.set_exp(lifetime=timedelta(seconds=seconds))
    return str(token)


# Getting in ---------------------------------------------------------------------------------------------------------


def test_a_session_a_ticket_and_a_token_get_in_and_leave_no_trace(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site)
    tokens: list[str] = []

    def mint(refresh: bool) -> str:
        tokens.append(minted(shared_site, "alice", 60))
        return tokens[-1]

    page.page.expose_function("mint", mint)
    for options in ("{}", TICKET, TOKEN, f"{{...{TICKET}, ...{TOKEN}}}"):
        page.begin(next(rooms), options)
        page.expect_state("open")
        assert page.page.evaluate("client.request({type: 'ask'})")["user"] == "alice"
        page.page.evaluate("client.close()")
    assert len(tokens) == 2
    log = shared_site.log.read_text()
    assert not any(token in "".join([log, *page.written]) for token in tokens)


@on_uvicorn
def test_a_token_that_no_browser_can_offer_is_not_repeated(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site)
    page.begin(next(rooms), "{token: () => 'secret token'}")
    page.expect_state("denied")
    assert page.heard()["denied"][0]["code"] == "bad_request"
    assert "secret token" not in str([page.heard(), page.written])


@on_daphne
def test_a_hello_and_the_heartbeats_of_the_server_are_understood(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site)
    page.begin("/ws/greeting/lobby/", "{heartbeat: 0}")
    page.expect("heard.open.length")
    page.page.evaluate("sockets[0].addEventListener('message', ({data}) => (window.last = data))")
    page.expect('window.last === \'{"type":"ping"}\'')
    page.page.evaluate("window.last = ''")
    page.expect('window.last === \'{"type":"ping"}\'')
    assert page.state == "open"


# Being refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("username", "url", "code"),
    [
        ("alice", "/ws/closed/", "permission_denied"),
        ("alice", "/ws/there/is/none/", "not_found"),
        (None, "/ws/lobby/", "unauthenticated"),
    ],
)
def test_who_is_refused_is_told_why_and_does_not_try_again(
    shared_site: Site, tab: OpenTab, username: str | None, url: str, code: str
) -> None:
    page = tab(shared_site, username)
    page.begin(url)
    page.expect_state("denied")
    heard = page.heard()
    assert [(each["code"], each["reconnect"]) for each in heard["denied"]] == [(code, False)]
    assert heard["open"] == []
    assert page.sockets() == 1


@on_daphne
def test_a_stranger_gets_no_ticket_and_no_socket_is_tried(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site, None)
    page.begin(next(rooms), TICKET)
    page.expect_state("denied")
    assert page.heard()["denied"][0]["code"] == "unauthenticated"
    assert page.sockets() == 0


@on_uvicorn
def test_a_message_that_is_refused_leaves_the_connection_alone(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site)
    page.begin(next(rooms))
    page.expect_state("open")
    page.send({"type": "say", "text": ""})
    page.expect("heard.error.length")
    assert page.heard()["error"][0]["errors"][0]["path"] == "text"
    asked = "client.request({type: 'say', text: ''}).catch(({code, errors}) => [code, errors[0].path])"
    assert page.page.evaluate(asked) == ["invalid_message", "text"]
    assert page.state == "open"


# Limits -------------------------------------------------------------------------------------------------------------


def test_a_flood_is_refused_in_words_and_one_that_goes_on_ends_for_good(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site, "carol")
    page.begin(next(rooms))
    page.expect_state("open")
    page.page.evaluate("() => { for (let i = 0; i < 30; i++) client.send({type: 'say', text: 'again'}) }")
    page.expect("heard.error.length")
    assert page.heard()["error"][0]["code"] == "rate_limited"
    assert page.heard()["error"][0]["retry_after"] > 0
    page.page.evaluate(
        """() => {
          const again = () => {
            if (client.state !== "open") return;
            client.send({type: "nonsense"});
            setTimeout(again, 60);
          };
          again();
        }"""
    )
    page.expect_state("denied")
    assert page.heard()["denied"][-1]["code"] == "too_many_errors"


def test_who_has_too_many_connections_waits_and_gets_in_when_one_closes(shared_site: Site, tab: OpenTab) -> None:
    others = [tab(shared_site, "dave") for _ in range(3)]
    for other in others:
        other.begin(next(rooms))
        other.expect_state("open")
    page = tab(shared_site, "dave")
    page.begin(next(rooms))
    page.expect_state("waiting")
    denied = page.heard()["denied"][0]
    assert (denied["code"], denied["reconnect"]) == ("connection_limit", True)
    assert page.heard()["state"][-1]["delay"] >= denied["retry_after"] * 1000
    others[0].page.evaluate("client.close()")
    page.expect_state("open")


@on_daphne
def test_what_was_said_while_away_arrives_in_order_and_nothing_of_it_is_refused(
    shared_site: Site, tab: OpenTab
) -> None:
    page = tab(shared_site)
    page.begin(next(rooms))
    page.page.evaluate("() => { for (let i = 0; i < 50; i++) client.send({type: 'say', text: `${i}`}) }")
    page.expect("heard.message.length === 50")
    heard = page.heard()
    assert [frame["text"] for frame in heard["message"]] == [str(number) for number in range(50)]
    assert heard["error"] == []


# Tokens that expire -------------------------------------------------------------------------------------------------


def test_a_token_is_renewed_in_the_socket_before_it_expires(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site, None)
    asked: list[bool] = []
    end = time.time() + 8

    def mint(refresh: bool) -> str:
        asked.append(refresh)
        return minted(shared_site, "alice", 60 if refresh else end - time.time())

    page.page.expose_function("mint", mint)
    page.begin(next(rooms), TOKEN)
    page.expect_state("open")
    page.page.evaluate("sockets[0].addEventListener('message', ({data}) => (window.last = JSON.parse(data).type))")
    page.expect("window.last === 'token_refreshed'")
    page.expect(f"Date.now() > {(end + 1) * 1000}")
    assert page.page.evaluate("client.request({type: 'ask'})")["user"] == "alice"
    assert asked == [False, True]
    assert page.sockets() == 1


def test_a_token_that_was_not_renewed_ends_the_socket_and_the_next_brings_a_fresh_one(
    shared_site: Site, tab: OpenTab
) -> None:
    page = tab(shared_site, None)
    lifetimes = itertools.chain([6], itertools.repeat(60))
    page.page.expose_function("mint", lambda refresh: "" if refresh else minted(shared_site, "bob", next(lifetimes)))
    page.begin(next(rooms), TOKEN)
    page.expect("heard.open.length === 2")
    heard = page.heard()
    assert [(each["code"], each["reconnect"]) for each in heard["denied"]] == [("credentials_expired", True)]
    assert {each["code"] for each in heard["error"]} == {"not_refreshed"}


@on_uvicorn
def test_whoever_brings_expired_tokens_only_is_not_let_try_for_ever(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site, None)
    page.page.expose_function("mint", lambda refresh: minted(shared_site, "alice", -60))
    page.begin(next(rooms), TOKEN)
    page.expect_state("denied")
    assert [each["code"] for each in page.heard()["denied"]] == ["credentials_expired"] * 2
    assert page.sockets() == 2


# Operators ----------------------------------------------------------------------------------------------------------


def test_who_is_blocked_is_cut_off_told_and_kept_out(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site, "erin")
    page.begin(next(rooms), TICKET)
    page.expect_state("open")
    shared_site.manage("ws_block", "--user", "erin", "--reason", "Rude")
    page.expect_state("denied")
    assert (page.heard()["denied"][0]["code"], page.sockets()) == ("blocked", 1)
    page.page.evaluate("client.connect()")
    page.expect("heard.denied.length === 2")
    assert (page.heard()["denied"][1]["code"], page.sockets()) == ("blocked", 1)


def test_a_block_that_ends_is_waited_out(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site, "frank")
    page.begin(next(rooms))
    page.expect_state("open")
    shared_site.manage("ws_block", "--user", "frank", "--duration", "5")
    page.expect("heard.denied.length")
    denied = page.heard()["denied"][0]
    assert (denied["code"], denied["reconnect"]) == ("blocked", True)
    page.expect("heard.open.length === 2")


def test_who_is_disconnected_by_an_operator_stays_away_until_the_page_asks(shared_site: Site, tab: OpenTab) -> None:
    page = tab(shared_site, "bob")
    page.begin(next(rooms))
    page.expect_state("open")
    shared_site.manage("ws_disconnect", "--user", "bob")
    page.expect_state("denied")
    assert page.heard()["denied"][0]["code"] == "disconnected"
    page.page.evaluate("client.connect()")
    page.expect_state("open")


# Servers that go and come -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", [SIGTERM, SIGKILL], ids=["stopped", "killed"])
def test_the_client_is_back_when_the_server_is_with_what_was_said_meanwhile(
    site: Site, tab: OpenTab, signal: Signals
) -> None:
    page = tab(site)
    page.begin("/ws/lobby/", TICKET)
    page.expect_state("open")
    site.stop(signal)
    page.expect("['waiting', 'connecting'].includes(client.state)")
    page.send({"type": "say", "text": "while you were away"})
    site.start()
    page.expect("heard.message.length === 1")
    assert page.heard()["message"] == [{"type": "said", "text": "while you were away"}]
    assert len(page.heard()["open"]) == 2


def test_the_pages_of_a_server_that_restarts_are_spread_over_seconds(site: Site, tab: OpenTab) -> None:
    page = tab(site)
    page.begin()
    page.expect_state("open")
    # The latest of a thousand.
    page.page.evaluate("Math.random = () => 0.999")
    site.stop()
    page.expect_state("waiting")
    denied, delay = page.heard()["denied"], page.heard()["state"][-1]["delay"]
    if denied:  # the server spreads them itself
        assert denied[0]["code"] == "server_restart"
        assert delay == pytest.approx(denied[0]["retry_after"] * 1000 + 499.5)
        assert denied[0]["retry_after"] >= COME_BACK[0]
    else:
        assert delay == pytest.approx(9_990)


def test_a_server_that_stands_still_is_noticed(site: Site, tab: OpenTab) -> None:
    page = tab(site)
    page.begin("/ws/lobby/", "{heartbeat: 300, timeout: 1000}")
    page.expect_state("open")
    site.signal(SIGSTOP)
    page.expect("client.state !== 'open'")
    assert page.heard()["denied"] == []
    site.signal(SIGCONT)
    page.expect_state("open")


@pytest.mark.parametrize("kind", ["daphne"])
def test_a_page_that_is_offline_waits_for_the_network(site: Site, tab: OpenTab) -> None:
    page = tab(site)
    page.begin()
    page.expect_state("open")
    page.context.set_offline(True)
    site.stop()
    page.expect_state("paused")
    site.start()
    tried = page.sockets()
    page.context.set_offline(False)
    page.expect_state("open")
    assert page.sockets() == tried + 1


@pytest.mark.parametrize("kind", ["uvicorn"])
def test_a_page_that_nobody_looks_at_waits_to_be_looked_at(site: Site, tab: OpenTab) -> None:
    page = tab(site)
    page.begin()
    page.expect_state("open")
    looks = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); "
    changes = "document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))"
    page.page.evaluate(looks % "true" + changes)
    site.stop()
    page.expect_state("paused")
    site.start()
    page.page.evaluate(looks % "false" + changes)
    page.expect_state("open")


@pytest.mark.parametrize("kind", ["uvicorn"])
def test_a_listener_that_raises_is_the_pages_fault_and_not_the_clients(site: Site, tab: OpenTab) -> None:
    page = tab(site)
    page.begin()
    page.page.evaluate(
        "() => { for (const name of Object.keys(heard)) client.on(name, () => { throw Error('mine'); }) }"
    )
    page.expect_state("open")
    site.stop()
    page.expect_state("waiting")
    site.start()
    page.expect("heard.open.length === 2")
    assert {text.split(":")[-1].strip() for text in page.raised} == {"mine"}
    page.raised.clear()
