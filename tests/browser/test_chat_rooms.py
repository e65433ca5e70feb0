"""Rooms of the example: opened, joined and kept in order; whoever is refused reads why at once."""

import re

import pytest

from tests.browser.driver import Locator, Page, expect
from tests.browser.example import Visitors, daphne, say, uvicorn

pytestmark = pytest.mark.browser

ON_EACH_SERVER = pytest.mark.parametrize("example", [daphne, uvicorn], ids=["daphne", "uvicorn"], indirect=True)


def status(page: Page) -> Locator:
    return page.get_by_role("status")


def refusal(page: Page) -> Locator:
    return page.get_by_role("alert")


def messages(page: Page) -> Locator:
    return page.get_by_role("log", name="Messages").get_by_role("listitem")


def people(page: Page) -> Locator:
    return page.locator("#people li")


def moderate(page: Page, username: str, act: str) -> None:
    page.get_by_role("button", name=f"Moderate {username}").click()
    page.get_by_role("dialog", name=username).get_by_role("button", name=act).click()


@pytest.fixture
def alice(visitors: Visitors) -> Page:
    """The owner of a new room, whom nobody has joined."""
    page = visitors.arrive("alice")
    page.get_by_text("Open a room of your own").click()
    page.get_by_label("Title").fill("Garden")
    page.get_by_label("Visibility").select_option("members")
    page.get_by_role("button", name="Open the room").click()
    expect(page.get_by_role("heading", name="Garden")).to_be_visible()
    expect(status(page)).to_have_text("Connected")
    return page


@pytest.fixture
def bob(visitors: Visitors, alice: Page) -> Page:
    """A member of it, who has come by the list of rooms."""
    page = visitors.arrive("bob")
    page.get_by_role("button", name="Join Garden").click()
    expect(status(page)).to_have_text("Connected")
    return page


def test_a_room_for_members_is_refused_to_others_who_are_offered_to_join(visitors: Visitors, alice: Page) -> None:
    carol = visitors.arrive("carol", alice.url)
    expect(status(carol)).to_contain_text("(permission_denied)")
    expect(carol.get_by_text("This room is for its members.")).to_be_visible()
    expect(carol.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    assert carol.evaluate("window.sockets.length") == 1
    carol.get_by_role("button", name="Join").click()
    expect(status(carol)).to_have_text("Connected")
    expect(people(alice)).to_have_text([re.compile("^alice"), re.compile("^carol")])


@ON_EACH_SERVER
def test_a_muted_member_reads_for_how_long_and_loses_no_text(alice: Page, bob: Page) -> None:
    say(bob, "Weeds everywhere")
    expect(messages(alice)).to_have_text(["bob Weeds everywhere"])
    moderate(alice, "bob", "Mute for a minute")
    expect(bob.locator("#muted")).to_have_text(re.compile(r"^You are muted for \d\d s$"))
    say(bob, "Weeds, I say")
    expect(refusal(bob)).to_have_text("You are muted. (permission_denied)")
    expect(bob.locator("#retry")).to_have_text(re.compile(r"^Try again in \d\d s$"))
    expect(bob.get_by_label("Your message")).to_have_value("Weeds, I say")
    # Whoever comes later finds the mute, and may end it.
    alice.reload()
    expect(people(alice).filter(has_text="bob")).to_contain_text("muted")
    moderate(alice, "bob", "Unmute")
    expect(bob.locator("#muted")).to_be_empty()
    bob.get_by_role("button", name="Send").click()
    expect(messages(alice).last).to_have_text("bob Weeds, I say")
    assert bob.evaluate("window.sockets.length") == 1


@ON_EACH_SERVER
def test_who_is_put_out_reads_it_and_may_come_back(alice: Page, bob: Page) -> None:
    moderate(alice, "bob", "Remove from the room")
    expect(status(bob)).to_contain_text("(disconnected)")
    expect(bob.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    expect(people(alice)).to_have_text([re.compile("^alice")])
    assert bob.evaluate("window.sockets.length") == 1
    bob.get_by_role("button", name="Try again").click()
    expect(status(bob)).to_have_text("Connected")
    expect(people(alice)).to_have_text([re.compile("^alice"), re.compile("^bob")])


@ON_EACH_SERVER
def test_who_is_banned_reads_it_stays_out_and_is_let_in_when_the_ban_is_lifted(alice: Page, bob: Page) -> None:
    moderate(alice, "bob", "Ban")
    expect(status(bob)).to_contain_text("(permission_denied)")
    assert bob.evaluate("window.sockets.length") == 1
    bob.get_by_role("button", name="Try again").click()
    expect(status(bob)).to_contain_text("(permission_denied)")
    bob.reload()
    expect(bob.get_by_text("You are banned from this room.")).to_be_visible()
    bob.goto("/")
    expect(bob.get_by_role("listitem").filter(has_text="Garden")).to_contain_text("banned")
    expect(bob.get_by_role("button", name="Join Garden")).to_have_count(0)
    moderate(alice, "bob", "Lift the ban")
    expect(messages(alice).last).to_have_text("alice lifted the ban on bob.")
    bob.reload()
    bob.get_by_role("button", name="Join Garden").click()
    expect(status(bob)).to_have_text("Connected")


def test_slow_mode_and_a_message_taken_back(alice: Page, bob: Page) -> None:
    alice.get_by_label("Slow mode").fill("60")
    alice.get_by_label("Slow mode").press("Enter")
    expect(bob.locator("#slow-mode")).to_have_text("Slow mode: one message in 60 s")
    say(bob, "First")
    expect(messages(bob).last).to_have_text("bob First")
    say(bob, "Second")
    expect(refusal(bob)).to_have_text("Slow mode is on. (rate_limited)")
    expect(bob.get_by_label("Your message")).to_have_value("Second")
    for text in ("I", "am", "not slowed"):
        say(alice, text)
    expect(messages(bob).last).to_have_text("alice not slowed")
    messages(alice).filter(has_text="First").get_by_role("button", name="Delete this message").click()
    expect(messages(bob).filter(has_text="First")).to_have_count(0)
    # One's own words are one's own; others' are for those who keep order.
    expect(messages(bob).filter(has_text="not slowed").get_by_role("button")).to_have_count(0)
    expect(messages(alice).filter(has_text="not slowed").get_by_role("button")).to_have_count(1)


def test_a_new_role_holds_at_once_and_so_does_its_end(visitors: Visitors, alice: Page, bob: Page) -> None:
    expect(bob.get_by_role("heading", name="Keep order")).to_be_hidden()
    moderate(alice, "bob", "Make a moderator")
    expect(bob.locator("#role")).to_have_text("moderator")
    expect(bob.get_by_role("heading", name="Keep order")).to_be_visible()
    bob.get_by_label("Add a member by name").fill("carol")
    bob.get_by_role("button", name="Add").click()
    expect(status(bob)).to_have_text("Connected")
    carol = visitors.arrive("carol", alice.url)
    expect(status(carol)).to_have_text("Connected")
    # Whom a moderator may not touch, they are not offered.
    expect(bob.get_by_role("button", name="Moderate carol")).to_be_visible()
    expect(bob.get_by_role("button", name="Moderate alice")).to_have_count(0)
    moderate(alice, "bob", "Make a member")
    expect(bob.get_by_role("heading", name="Keep order")).to_be_hidden()
    expect(bob.get_by_role("button", name="Moderate carol")).to_have_count(0)
    # Who asks all the same, past the page, is told no.
    bob.evaluate("""() => {
        const own = document.querySelector("#people [id^=person-]").dataset.user;
        window.sockets.at(-1).send(JSON.stringify({type: "room.kick", user: Number(own)}));
    }""")
    expect(refusal(bob)).to_contain_text("(permission_denied)")


def test_order_is_kept_by_keyboard_alone(alice: Page, bob: Page) -> None:
    alice.get_by_role("button", name="Moderate bob").focus()
    alice.keyboard.press("Enter")
    dialog = alice.get_by_role("dialog", name="bob")
    expect(dialog.get_by_role("button", name="Mute for a minute")).to_be_focused()
    alice.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(alice.get_by_role("button", name="Moderate bob")).to_be_focused()
    alice.keyboard.press("Enter")
    alice.keyboard.press("Enter")
    expect(messages(bob).last).to_have_text("alice muted bob for 60 s.")
    # The list is made anew, and the focus is where it was.
    expect(people(alice).filter(has_text="bob")).to_contain_text("muted")
    expect(alice.get_by_role("button", name="Moderate bob")).to_be_focused()
    alice.get_by_label("Slow mode").focus()
    alice.keyboard.press("ArrowUp")
    alice.keyboard.press("ArrowUp")
    alice.keyboard.press("Enter")
    expect(messages(bob).last).to_have_text("alice set slow mode to 2 s.")


def test_somebody_who_does_not_exist_is_not_added(alice: Page) -> None:
    alice.get_by_label("Add a member by name").fill("nobody")
    alice.get_by_role("button", name="Add").click()
    expect(alice.get_by_text("There is nobody of this name.")).to_be_visible()
    expect(status(alice)).to_have_text("Connected")
