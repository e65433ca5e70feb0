"""People in front of the example: they talk, they are refused and told why, and an operator throws one out."""

import re
from pathlib import Path

import pytest

from tests.browser.driver import Locator, Page, expect
from tests.browser.example import (
    PASSWORD,
    Server,
    Visitors,
    block,
    copy_database,
    daphne,
    log_in,
    reload_until_there,
    running_example,
    say,
    uvicorn,
)
from tests.services import free_port

pytestmark = pytest.mark.browser

LOBBY = "/rooms/lobby/"
ON_EACH_SERVER = pytest.mark.parametrize("example", [daphne, uvicorn], ids=["daphne", "uvicorn"], indirect=True)
# What the page can be asked to send, and how the refusal reads.
NONSENSE = {
    "Not JSON": "(invalid_message)",
    "An unknown type": "(unknown_type)",
    "An empty text": "(invalid_message) · text:",
    "An unknown field": "(invalid_message) · ",
    "What moderators do": "(permission_denied)",
}


def status(page: Page) -> Locator:
    return page.get_by_role("status")


def messages(page: Page) -> Locator:
    return page.get_by_role("log", name="Messages").get_by_role("listitem")


def refusal(page: Page) -> Locator:
    return page.get_by_role("alert")


@ON_EACH_SERVER
def test_two_users_read_each_other_and_markup_stays_text(visitors: Visitors) -> None:
    alice, bob = visitors.arrive("alice", LOBBY), visitors.arrive("bob", LOBBY)
    for page in (alice, bob):
        expect(status(page)).to_have_text("Connected")
    say(alice, "Hello, Bob")
    expect(messages(bob)).to_have_text(["alice Hello, Bob"])
    say(bob, "<img src=x onerror=alert(1)> ✓ שלום")
    for page in (alice, bob):
        expect(messages(page)).to_have_text(["alice Hello, Bob", "bob <img src=x onerror=alert(1)> ✓ שלום"])
    expect(alice.get_by_label("Your message")).to_be_focused()


def test_an_operator_reads_in_the_audit_trail_who_was_refused_and_why(visitors: Visitors) -> None:
    bob, admin = visitors.arrive("bob", LOBBY), visitors.arrive("admin")
    bob.get_by_text("Try what the server refuses").click()
    bob.get_by_role("button", name="12 messages at once").click()
    expect(refusal(bob)).to_contain_text("(rate_limited)")
    row = (
        admin.get_by_role("row")
        .filter(has_text="message denied")
        .filter(has_text="rate_limited")
        .filter(has_text="bob")
    )
    reload_until_there(admin, "/admin/channels_secure/auditevent/", row.first)
    expect(row.first).to_contain_text("/ws/chat/lobby/")


def test_what_is_said_in_one_room_is_not_heard_in_another(visitors: Visitors) -> None:
    alice, bob = visitors.arrive("alice", LOBBY), visitors.arrive("bob", "/rooms/slow/")
    for page in (alice, bob):
        expect(status(page)).to_have_text("Connected")
    say(alice, "Only for the lobby")
    say(bob, "Only for the slow lane")
    expect(messages(alice)).to_have_text(["alice Only for the lobby"])
    expect(messages(bob)).to_have_text(["bob Only for the slow lane"])


@ON_EACH_SERVER
def test_a_flood_is_refused_with_a_reason_and_a_time_and_the_socket_survives(visitors: Visitors) -> None:
    alice, bob = visitors.arrive("alice", LOBBY), visitors.arrive("bob", LOBBY)
    expect(status(bob)).to_have_text("Connected")
    alice.get_by_text("Try what the server refuses").click()
    alice.get_by_role("button", name="12 messages at once").click()
    expect(refusal(alice)).to_contain_text("(rate_limited)")
    expect(alice.locator("#retry")).to_have_text(re.compile(r"^Try again in \d s$"))
    expect(messages(alice)).to_have_count(5)
    expect(status(alice)).to_have_text("Connected")
    say(bob, "Others may still talk")
    expect(messages(alice).last).to_have_text("bob Others may still talk")
    # Two seconds earn one more message: the same socket speaks again as soon as the page says so.
    expect(refusal(alice)).to_be_empty(timeout=15_000)
    say(alice, "Sorry")
    expect(messages(bob).last).to_have_text("alice Sorry")


def test_a_refused_message_is_back_in_the_field(visitors: Visitors) -> None:
    page = visitors.arrive("alice", LOBBY)
    expect(status(page)).to_have_text("Connected")
    # At once, or a slow machine earns another message meanwhile.
    page.evaluate(
        """() => {
          const form = document.getElementById("say");
          for (let number = 0; number < 6; number += 1) {
            form.elements.text.value = `Message ${number}`;
            form.requestSubmit();
          }
        }"""
    )
    expect(refusal(page)).to_contain_text("(rate_limited)")
    expect(page.get_by_label("Your message")).to_have_value("Message 5")


@ON_EACH_SERVER
def test_nonsense_is_refused_by_name_and_the_socket_survives(visitors: Visitors) -> None:
    page = visitors.arrive("alice", LOBBY)
    page.get_by_text("Try what the server refuses").click()
    for button, words in NONSENSE.items():
        page.get_by_role("button", name=button).click()
        expect(refusal(page)).to_contain_text(words)
    say(page, "Still here")
    expect(messages(page)).to_have_text(["alice Still here"])
    expect(refusal(page)).to_be_empty()
    # The first is the page's own; what is no JSON came over another.
    assert page.evaluate("window.sockets.map((socket) => socket.url === window.sockets[0].url)") == [True, True]
    assert page.evaluate("window.sockets[0].readyState") == 1


def test_binary_data_is_refused_by_name_and_ends_a_socket_that_is_not_the_page_s_own(visitors: Visitors) -> None:
    page = visitors.arrive("alice", LOBBY)
    page.get_by_text("Try what the server refuses").click()
    page.get_by_role("button", name="Binary data").click()
    expect(refusal(page)).to_contain_text("(unsupported_data)")
    expect(status(page)).to_have_text("Connected")


def test_a_page_whose_socket_is_closed_for_good_waits_to_be_asked(visitors: Visitors) -> None:
    page = visitors.arrive("alice", LOBBY)
    expect(status(page)).to_have_text("Connected")
    page.evaluate("window.sockets[0].send(new Uint8Array([1]))")
    expect(status(page)).to_contain_text("(unsupported_data)")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    assert page.evaluate("window.sockets.length") == 1
    page.get_by_role("button", name="Try again").click()
    expect(status(page)).to_have_text("Connected")


def test_a_page_that_goes_on_with_nonsense_is_closed_and_does_not_come_back(visitors: Visitors) -> None:
    page = visitors.arrive("alice", LOBBY)
    expect(status(page)).to_have_text("Connected")
    # Once per frame of the screen, which the connection's rate allows: it is the error budget that is spent.
    page.evaluate(
        """() => {
          const [socket] = window.sockets;
          const again = () => { if (socket.readyState === 1) { socket.send("hello?"); requestAnimationFrame(again); } };
          again();
        }"""
    )
    expect(status(page)).to_contain_text("(too_many_errors)")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.locator("#wait")).to_be_empty()
    assert page.evaluate("window.sockets.length") == 1


def test_who_has_too_many_connections_is_let_in_as_soon_as_one_of_them_closes(visitors: Visitors) -> None:
    first = visitors.arrive("alice", LOBBY)
    expect(status(first)).to_have_text("Connected")
    first.evaluate(
        """() => Promise.all(Array.from({length: 9}, () => {
          const socket = new WebSocket(window.sockets[0].url);
          return new Promise((resolve) => socket.addEventListener("message", resolve, {once: true}));
        }))"""
    )
    second = first.context.new_page()
    second.goto(LOBBY)
    expect(status(second)).to_contain_text("(connection_limit)")
    expect(second.locator("#wait")).to_have_text(re.compile(r"^Next try in \d+ (s|min)$"))
    first.close()
    expect(status(second)).to_have_text("Connected", timeout=30_000)


@ON_EACH_SERVER
def test_a_stranger_is_told_to_log_in_and_finds_the_way_back(visitors: Visitors) -> None:
    page = visitors.arrive(path=LOBBY)
    expect(status(page)).to_contain_text("(unauthenticated)")
    assert page.evaluate("window.sockets.length") == 1
    page.get_by_role("main").get_by_role("link", name="Log in").click()
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(f"{LOBBY}$"))
    expect(status(page)).to_have_text("Connected")


def test_who_logs_out_is_a_stranger_again(visitors: Visitors) -> None:
    page = visitors.arrive("alice", LOBBY)
    expect(status(page)).to_have_text("Connected")
    page.get_by_role("button", name="Log out").click()
    page.goto(LOBBY)
    expect(status(page)).to_contain_text("(unauthenticated)")


@ON_EACH_SERVER
def test_a_page_whose_session_has_ended_elsewhere_says_so_and_leads_back(visitors: Visitors) -> None:
    page = visitors.arrive()
    log_in(page, "alice")
    page.goto(LOBBY)
    expect(status(page)).to_have_text("Connected")
    page.get_by_label("Your message").fill("Half a thought")
    elsewhere = page.context.new_page()
    elsewhere.goto("/")
    elsewhere.get_by_role("button", name="Log out").click()
    # `session_ended` lets it try again once: another session may have begun, and here none has.
    expect(status(page)).to_contain_text("(unauthenticated)")
    expect(page.get_by_label("Your message")).to_have_value("Half a thought")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    page.get_by_role("main").get_by_role("link", name="Log in").click()
    expect(page).to_have_url(re.compile("/login/"))


@ON_EACH_SERVER
def test_the_admin_blocks_bob_who_is_cut_off_told_and_kept_out_until_the_block_is_lifted(visitors: Visitors) -> None:
    bob, alice = visitors.arrive("bob", LOBBY), visitors.arrive("alice", LOBBY)
    admin = visitors.arrive("admin", "/admin/")
    for page in (bob, alice):
        expect(status(page)).to_have_text("Connected")
    block(admin, "bob", "Rude in the lobby")
    expect(status(bob)).to_contain_text("(blocked)")
    expect(bob.locator("#status")).to_have_attribute("data-state", "blocked")
    bob.reload()
    expect(status(bob)).to_contain_text("(blocked)")
    expect(status(alice)).to_have_text("Connected")
    say(alice, "Quiet at last")
    expect(messages(alice)).to_have_text(["alice Quiet at last"])
    admin.goto("/admin/channels_secure/block/")
    admin.get_by_role("link", name="bob").click()
    admin.get_by_role("button", name="Lift this block").click()
    expect(admin.get_by_text("1 block was lifted.")).to_be_visible()
    bob.get_by_role("button", name="Try again").click()
    expect(status(bob)).to_have_text("Connected")


def test_a_page_with_nothing_but_a_jwt_chats_through_the_subprotocol(visitors: Visitors) -> None:
    alice, stranger = visitors.arrive("alice", LOBBY), visitors.arrive()
    expect(status(alice)).to_have_text("Connected")
    chosen = stranger.evaluate(
        """async (password) => {
          const post = async (path, content) => {
            const headers = {"Content-Type": "application/json"};
            return (await fetch(path, {method: "POST", headers, body: JSON.stringify(content)})).json();
          };
          const {refresh} = await post("/api/token/", {username: "bob", password});
          const {access} = await post("/api/token/refresh/", {refresh});
          const url = location.origin.replace("http", "ws") + "/ws/chat/lobby/";
          const socket = new WebSocket(url, ["channels-secure.v1", `channels-secure.bearer.${access}`]);
          await new Promise((resolve) => socket.addEventListener("message", resolve, {once: true}));
          socket.send(JSON.stringify({type: "room.say", text: "With a token"}));
          return socket.protocol;
        }""",
        PASSWORD,
    )
    assert chosen == "channels-secure.v1"
    expect(messages(alice)).to_have_text(["bob With a token"])


@pytest.mark.parametrize("serve", [daphne, uvicorn])
def test_the_page_comes_back_by_itself_when_the_server_does(
    visitors: Visitors, seeded_database: Path, tmp_path: Path, serve: Server
) -> None:
    port = free_port()
    page = visitors.arrive("alice")
    database = copy_database(seeded_database, tmp_path / "second.sqlite3")
    with running_example(database, tmp_path / "before.log", port=port, server=serve) as before:
        page.goto(before.url + LOBBY)
        expect(status(page)).to_have_text("Connected")
    expect(status(page)).not_to_have_text("Connected")
    with running_example(database, tmp_path / "after.log", port=port, server=serve) as after:
        expect(status(page)).to_have_text("Connected", timeout=30_000)
        say(page, "Back again")
        expect(messages(page)).to_have_text(["alice Back again"])
    assert before.complaints() == after.complaints() == []
