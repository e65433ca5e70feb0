"""The example's encrypted room: two people read each other, and nothing between them does."""

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

from tests.browser.driver import Locator, Page, WebSocket, expect
from tests.browser.example import Server, Visitors, copy_database, daphne, running_example, say, uvicorn
from tests.services import free_port

pytestmark = pytest.mark.browser

DEN, LOBBY = "/rooms/den/", "/rooms/lobby/"
SECRET = "The cake is under the oak"


def status(page: Page) -> Locator:
    return page.get_by_role("status")


def messages(page: Page) -> Locator:
    return page.get_by_role("log", name="Messages").get_by_role("listitem")


def fingerprint(page: Page, username: str) -> Locator:
    return page.locator("#fingerprints li").filter(has_text=username)


def enter(page: Page, room: str) -> None:
    page.goto(room)
    expect(status(page)).to_have_text("Connected")


def overheard(page: Page) -> list[str]:
    """Whatever goes over the sockets that the page opens from now on."""
    frames: list[str] = []

    def hear(frame: bytes | str) -> None:
        frames.append(str(frame))

    def listen(socket: WebSocket) -> None:
        for direction in ("framesent", "framereceived"):
            socket.on(direction, hear)

    page.on("websocket", listen)
    return frames


@pytest.mark.parametrize("example", [daphne, uvicorn], ids=["daphne", "uvicorn"], indirect=True)
def test_neither_frames_nor_files_hold_what_the_two_say(visitors: Visitors, tmp_path: Path) -> None:
    alice, bob = visitors.arrive("alice"), visitors.arrive("bob")
    frames = [overheard(alice), overheard(bob)]
    for page in (alice, bob):
        enter(page, DEN)
        expect(page.locator("#fingerprints li")).to_have_count(2 if page is bob else 1)
    say(alice, SECRET)
    expect(messages(bob)).to_have_text([f"alice {SECRET}"])
    say(bob, f"I know: {SECRET}")
    expect(messages(alice)).to_have_text([f"alice {SECRET}", f"bob I know: {SECRET}"])
    assert all('"sealed"' in "".join(heard) for heard in frames)
    assert all(SECRET not in frame for heard in frames for frame in heard)
    # What the server has written: its database with the journal, and its log.
    written = [file.read_bytes() for file in tmp_path.iterdir()]
    assert all(SECRET.encode() not in content for content in written)
    with contextlib.closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM channels_secure_rooms_wrappedkey").fetchone()[0] >= 2
    # The same ears in a room without keys.
    for page in (alice, bob):
        enter(page, LOBBY)
    say(alice, SECRET)
    expect(messages(bob)).to_have_text([f"alice {SECRET}"])
    assert all(SECRET in "".join(heard) for heard in frames)


def test_the_two_compare_fingerprints_and_say_so(visitors: Visitors) -> None:
    alice, bob = visitors.arrive("alice"), visitors.arrive("bob")
    for page in (alice, bob):
        enter(page, DEN)
    for username in ("alice", "bob"):
        shown = [fingerprint(page, username).locator("code") for page in (alice, bob)]
        expect(shown[0]).to_have_text(shown[1].inner_text())
    expect(fingerprint(alice, "bob")).to_contain_text("not compared")
    alice.get_by_role("button", name="bob’s fingerprints match").click()
    expect(fingerprint(alice, "bob").locator(".tag")).to_have_text("compared")
    alice.reload()
    expect(fingerprint(alice, "bob").locator(".tag")).to_have_text("compared")


def test_another_browser_of_bob_s_takes_over_and_alice_is_warned_before_she_speaks(visitors: Visitors) -> None:
    alice, bob = visitors.arrive("alice"), visitors.arrive("bob")
    for page in (alice, bob):
        enter(page, DEN)
    expect(fingerprint(alice, "bob")).to_be_visible()
    before = fingerprint(alice, "bob").locator("code").inner_text()
    elsewhere = visitors.arrive("bob", DEN)
    expect(elsewhere.get_by_role("alert")).to_contain_text("(key_elsewhere)")
    elsewhere.get_by_role("button", name="Use this browser’s key").click()
    expect(fingerprint(alice, "bob").locator(".tag")).to_have_text("changed")
    expect(fingerprint(alice, "bob").locator("code")).not_to_have_text(before)
    expect(messages(alice).last).to_have_text("bob has another key now: compare fingerprints again.")
    say(alice, SECRET)
    expect(alice.get_by_role("alert")).to_contain_text("(key_changed)")
    expect(alice.get_by_label("Your message")).to_have_value(SECRET)
    alice.get_by_role("button", name="bob’s fingerprints match").click()
    expect(fingerprint(alice, "bob").locator(".tag")).to_have_text("compared")
    alice.get_by_role("button", name="Send").click()
    expect(messages(elsewhere)).to_have_text([f"alice {SECRET}"])
    expect(messages(bob).filter(has_text=SECRET)).to_have_count(0)


def test_a_browser_that_keeps_no_keys_is_told_and_says_nothing_in_the_clear(visitors: Visitors) -> None:
    alice = visitors.arrive("alice")
    alice.add_init_script("IDBFactory.prototype.open = () => { throw new DOMException('', 'SecurityError'); };")
    frames = overheard(alice)
    enter(alice, DEN)
    expect(messages(alice)).to_have_text([re.compile("^This browser cannot keep keys")])
    expect(alice.get_by_label("Your message")).to_be_disabled()
    # What is sent is in order: had something been said, it would be before the answer to this.
    alice.evaluate(
        """() => new Promise((resolve) => {
          document.getElementById("text").value = "The cake";
          document.getElementById("say").requestSubmit();
          const socket = window.sockets.at(-1);
          socket.addEventListener("message", resolve, {once: true});
          socket.send('{"type": "ping"}');
        })"""
    )
    assert any("ping" in frame for frame in frames)
    assert all("room.say" not in frame for frame in frames)


def test_a_page_fits_the_room_again_when_that_is_encrypted_under_it(visitors: Visitors) -> None:
    alice, admin = visitors.arrive("alice", "/rooms/book-club/"), visitors.arrive("admin")
    expect(status(alice)).to_have_text("Connected")
    expect(alice.locator("#keys")).to_have_count(0)
    admin.goto("/admin/channels_secure_rooms/room/")
    admin.get_by_role("link", name="Book club").click()
    admin.get_by_label("Encrypted").check()
    admin.get_by_role("button", name="Save", exact=True).click()
    expect(fingerprint(alice, "alice")).to_be_visible()
    expect(status(alice)).to_have_text("Connected")


def test_others_do_not_learn_that_there_is_such_a_room(visitors: Visitors) -> None:
    carol = visitors.arrive("carol")
    expect(carol.get_by_role("link", name="Lobby")).to_be_visible()
    expect(carol.get_by_text("Alice and Bob")).to_have_count(0)
    assert carol.request.get(DEN).status == 404


@pytest.mark.parametrize("serve", [daphne, uvicorn])
def test_both_come_back_with_the_server_and_go_on(
    visitors: Visitors, seeded_database: Path, tmp_path: Path, serve: Server
) -> None:
    port, database = free_port(), copy_database(seeded_database, tmp_path / "second.sqlite3")
    alice, bob = visitors.arrive("alice"), visitors.arrive("bob")
    with running_example(database, tmp_path / "before.log", port=port, server=serve) as before:
        for page in (alice, bob):
            enter(page, before.url + DEN)
        say(alice, "Before")
        expect(messages(bob)).to_have_text(["alice Before"])
    for page in (alice, bob):
        expect(status(page)).not_to_have_text("Connected")
    with running_example(database, tmp_path / "after.log", port=port, server=serve) as after:
        for page in (alice, bob):
            expect(status(page)).to_have_text("Connected", timeout=30_000)
        say(bob, "After")
        expect(messages(alice)).to_have_text(["alice Before", "bob After"])
    assert before.complaints() == after.complaints() == []
