"""Takes the pictures of the README and the docs: runs the example and lets people and an operator meet in it."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from screenshots_operator import photograph_operator  # noqa: E402

from tests.browser.driver import Browser, Page, expect, find_chromium  # noqa: E402
from tests.browser.example import (  # noqa: E402
    Example,
    Visitors,
    block,
    chromium_at,
    copy_database,
    daphne,
    open_sessions,
    running_example,
    say,
    seed,
)

PICTURES = ROOT / "docs" / "_static" / "screenshots"
WINDOW = {"width": 960, "height": 620}


def main() -> None:
    path = find_chromium()
    if path is None:
        sys.exit("Screenshots need Chromium: apt-get install chromium, or name one in CHROMIUM_PATH.")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, chromium_at(path) as browser:
        database = Path(directory, "db.sqlite3")
        seed(database)
        sessions, second = open_sessions(database), copy_database(database, Path(directory, "second.sqlite3"))
        with running_example(database, Path(directory, "server.log")) as example:
            photograph(browser, example, sessions)
        with running_example(second, Path(directory, "second.log"), server=behind_a_proxy) as example:
            photograph_operator(browser, example, sessions, PICTURES)


def behind_a_proxy(port: int) -> list[str]:
    return [*daphne(port), "--settings", "tests.browser.behind_a_proxy"]


def photograph(browser: Browser, example: Example, sessions: dict[str, str]) -> None:
    people = Visitors(browser=browser, example=example, sessions=sessions)
    alice = people.arrive("alice", "/rooms/lobby/", viewport=WINDOW)
    bob = people.arrive("bob", "/rooms/lobby/", viewport=WINDOW, color_scheme="dark")
    for page in (alice, bob):
        expect(page.get_by_role("status")).to_have_text("Connected")
    talk(alice, bob)
    take(alice, "chat")
    photograph_rooms(people, bob)
    bob.get_by_text("Try what the server refuses").click()
    bob.get_by_role("button", name="12 messages at once").click()
    expect(bob.get_by_role("alert")).to_contain_text("rate_limited")
    take(bob, "chat-flood")
    admin = people.arrive("admin")
    block(admin, "bob", "Floods the lobby")
    expect(bob.get_by_role("status")).to_contain_text("blocked")
    take(bob, "chat-blocked")
    people.leave()


def photograph_rooms(people: Visitors, bob: Page) -> None:
    """The list of rooms, a moderator at work, and two people who seal what they say."""
    carol = people.arrive("carol", "/rooms/lobby/", viewport=WINDOW)
    carol.get_by_role("button", name="Moderate bob").click()
    take(carol, "chat-moderate")
    carol.get_by_role("button", name="Mute for a minute").click()
    expect(bob.locator("#muted")).to_contain_text("You are muted")
    say(bob, "Why?")
    expect(bob.get_by_role("alert")).to_contain_text("You are muted.")
    take(bob, "chat-muted")
    carol.get_by_role("button", name="Moderate bob").click()
    carol.get_by_role("button", name="Unmute").click()
    expect(bob.locator("#muted")).to_be_empty()
    bob.get_by_label("Your message").fill("")
    pair = [people.arrive(username, "/rooms/den/", viewport=WINDOW) for username in ("alice", "bob")]
    for page in pair:
        expect(page.get_by_role("status")).to_have_text("Connected")
    say(pair[0], "Nobody but you reads this, Bob.")
    expect(pair[1].get_by_role("log")).to_contain_text("Nobody but you")
    take(pair[1], "chat-sealed")
    pair[0].goto("/")
    take(pair[0], "chat-rooms")


def talk(alice: Page, bob: Page) -> None:
    for page, text in ((alice, "Hello, Bob!"), (bob, "Hi Alice. Is this thing safe?"), (alice, "Try it.")):
        say(page, text)
        for reader in (alice, bob):
            expect(reader.get_by_role("log")).to_contain_text(text)


def take(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    main()
