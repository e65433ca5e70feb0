"""An attack is under way: the operator finds who it is, stops it with a few clicks or keys, and harms nobody else."""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.browser.attackers import Attack, attack
from tests.browser.driver import Locator, Page, expect
from tests.browser.example import Example, Visitors, daphne, reload_until_there, say

LOBBY = "/rooms/lobby/"
ADMIN = "/admin/channels_secure"
DASHBOARD = f"{ADMIN}/auditevent/dashboard/?period=1h"
# RFC 5737: two addresses of one network, and the operator's.
HERE, THERE, OPERATOR = "198.51.100.7", "198.51.100.8", "192.0.2.99"


def behind_a_proxy(port: int) -> list[str]:
    return [*daphne(port), "--settings", "tests.browser.behind_a_proxy"]


pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize("example", [behind_a_proxy], ids=["daphne"], indirect=True),
]


@pytest.fixture
def under_attack(example: Example, sessions: dict[str, str]) -> Iterator[Attack]:
    """Bob, from two addresses; three sockets in all."""
    with attack(example, sessions["bob"], HERE, HERE, THERE) as begun:
        yield begun


@pytest.fixture
def operator(visitors: Visitors) -> Page:
    return visitors.arrive("admin", "/admin/", extra_http_headers={"X-Forwarded-For": OPERATOR})


@pytest.fixture
def chat(visitors: Visitors) -> Iterator[Callable[[str], None]]:
    """Alice and Carol, who talk all the while: each text must arrive, and over the sockets that they began with."""
    alice, carol = visitors.arrive("alice", LOBBY), visitors.arrive("carol", LOBBY)
    for page in (alice, carol):
        expect(page.get_by_role("status")).to_have_text("Connected")

    def talk(text: str) -> None:
        say(alice, text)
        expect(carol.get_by_role("log", name="Messages")).to_contain_text(f"alice {text}")

    yield talk
    for page in (alice, carol):
        expect(page.get_by_role("status")).to_have_text("Connected")
        assert page.evaluate("window.sockets.length") == 1


def button(page: Page, subject: str) -> Locator:
    return page.get_by_role("link", name=f"Block {subject}", exact=True)


def test_from_the_dashboard_to_a_block_by_mouse(
    operator: Page, under_attack: Attack, chat: Callable[[str], None]
) -> None:
    chat("Is somebody shouting?")
    reload_until_there(operator, DASHBOARD, button(operator, "bob"))
    button(operator, "bob").click()
    # Nothing has happened yet, and what would happen is told.
    expect(operator.get_by_text("closes 3 connections of 1 user now")).to_be_visible()
    assert under_attack.left == 3
    operator.get_by_label("Duration").select_option(label="1 hour")
    operator.get_by_label("Reason").fill("Floods the lobby")
    operator.get_by_role("button", name="Block", exact=True).click()
    expect(operator.get_by_text(re.compile(r"Blocked until .*: bob"))).to_be_visible()
    # Back where the operator came from.
    expect(operator.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()
    gone = [under_attack.next_gone() for _ in range(3)]
    assert [each.ended_with for each in gone] == [4423] * 3
    # The clients are told that they are blocked, and not what the operator wrote.
    assert {each.last_words["code"] for each in gone} == {"blocked"}
    assert "Floods" not in str([each.told for each in gone])
    chat("Quiet at last")
    expect(operator.get_by_role("link", name="Blocked bob")).to_be_visible()


def test_an_address_is_blocked_and_lifted_by_keyboard_alone(
    operator: Page, under_attack: Attack, chat: Callable[[str], None]
) -> None:
    reload_until_there(operator, DASHBOARD, button(operator, HERE))
    press_until(operator, button(operator, HERE), "Enter")
    type_into(operator, operator.get_by_label("Reason"), "Floods the lobby")
    press_until(operator, operator.get_by_role("button", name="Block", exact=True), "Enter")
    expect(operator.get_by_text(re.compile(rf"Blocked until .*: {re.escape(HERE)}/32"))).to_be_visible()
    gone = {under_attack.next_gone() for _ in range(2)}
    assert gone == set(under_attack.attackers[:2])
    assert {each.ended_with for each in gone} == {4423}
    # Who comes from elsewhere goes on, and so does everybody else.
    assert under_attack.left == 1
    chat("Half of it is gone")
    press_until(operator, operator.get_by_role("link", name="See this block"), "Enter")
    press_until(operator, operator.get_by_role("button", name="Lift this block"), "Enter")
    expect(operator.get_by_text(re.compile("lift", re.IGNORECASE)).first).to_be_visible()
    while operator.get_by_role("button", name="Lift").count():
        press_until(operator, operator.get_by_role("button", name="Lift").first, "Enter")
    expect(operator.get_by_text(re.compile(r"1 block was lifted"))).to_be_visible()


def test_one_connection_is_closed_then_all_of_a_user_who_is_free_to_come_back(
    operator: Page, under_attack: Attack, chat: Callable[[str], None]
) -> None:
    links = operator.get_by_role("link", name="Disconnect bob", exact=True)
    deadline = time.monotonic() + 20
    operator.goto(f"{ADMIN}/liveconnection/?q=bob")
    while links.count() < 3 and time.monotonic() < deadline:
        operator.reload()
    expect(links).to_have_count(3)
    links.first.click()
    expect(operator.get_by_text("This closes 1 connection of 1 user")).to_be_visible()
    assert under_attack.left == 3
    operator.get_by_role("button", name="Disconnect").click()
    expect(operator.get_by_text("1 connection ends within a second or two.")).to_be_visible()
    assert under_attack.next_gone().ended_with == 4440
    assert under_attack.left == 2
    # The rest from the user's own page.
    operator.goto("/admin/auth/user/?q=bob")
    operator.get_by_role("link", name="bob", exact=True).click()
    operator.get_by_role("link", name="Disconnect", exact=True).click()
    operator.get_by_role("button", name="Disconnect").click()
    expect(operator.get_by_text("Disconnecting bob")).to_be_visible()
    assert {under_attack.next_gone().ended_with for _ in range(2)} == {4440}
    chat("Still here")


def press_until(page: Page, target: Locator, key: str) -> None:
    """Walk to an element with the Tab key, as somebody does who has no mouse, and press a key there."""
    expect(target).to_be_visible()
    for _ in range(200):
        if target.evaluate("element => element === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(target).to_be_focused()
    page.keyboard.press(key)


def type_into(page: Page, field: Locator, text: str) -> None:
    press_until(page, field, "End")
    page.keyboard.type(text)
