"""What happens elsewhere reaches the open page: a logout in another tab, a token's end, a device that is signed off."""

import pytest

from tests.browser.driver import Locator, Page, expect
from tests.browser.example import Visitors, daphne, log_in, uvicorn

pytestmark = pytest.mark.browser

LOBBY = "/rooms/lobby/"


def brief_tokens(port: int) -> list[str]:
    return [*daphne(port), "--settings", "tests.browser.brief_tokens"]


def status(page: Page) -> Locator:
    return page.locator("#state")


@pytest.mark.parametrize("example", [daphne, uvicorn], ids=["daphne", "uvicorn"], indirect=True)
def test_a_logout_in_one_tab_ends_the_socket_of_the_other_and_no_other_device(visitors: Visitors) -> None:
    page, other_device = visitors.arrive(), visitors.arrive()
    log_in(page, "alice")
    log_in(other_device, "alice")
    tab = page.context.new_page()
    for each in (tab, other_device):
        each.goto(LOBBY)
        expect(status(each)).to_have_text("Connected")
    tab.evaluate("""() => {
        window.words = [];
        new MutationObserver(() => window.words.push(document.getElementById("state").textContent))
            .observe(document.getElementById("state"), {childList: true});
    }""")
    page.get_by_role("button", name="Log out").click()
    # It comes back at once, as it may, and is a stranger.
    expect(status(tab)).to_contain_text("(unauthenticated)")
    assert any("(session_ended)" in words for words in tab.evaluate("window.words"))
    expect(tab.get_by_role("main").get_by_role("link", name="Log in")).to_be_visible()
    expect(status(other_device)).to_have_text("Connected")


@pytest.mark.parametrize("example", [brief_tokens], indirect=True)
def test_a_page_renews_its_token_inside_the_open_socket(visitors: Visitors) -> None:
    page = visitors.arrive("alice", LOBBY + "?token")
    expect(status(page)).to_have_text("Connected")
    page.evaluate("""() => {
        const count = document.body.dataset;
        count.renewals = 0;
        window.sockets[0].addEventListener("message", ({data}) => {
            if (JSON.parse(data).type === "token_refreshed") count.renewals = Number(count.renewals) + 1;
        });
    }""")
    expect(status(page)).to_have_text("Connected, token renewed", timeout=10_000)
    # By the third, the first token has long run out.
    expect(page.locator("body")).to_have_attribute("data-renewals", "3", timeout=30_000)
    assert page.evaluate("window.sockets.length") == 1


def test_a_user_sees_the_own_connections_and_ends_another(visitors: Visitors) -> None:
    here, elsewhere = visitors.arrive(), visitors.arrive()
    for page in (here, elsewhere):
        log_in(page, "alice")
        page.goto(LOBBY)
        expect(status(page)).to_have_text("Connected")
    stranger = visitors.arrive("bob", LOBBY)
    expect(status(stranger)).to_have_text("Connected")
    items = here.locator("#devices li")
    summary = here.get_by_text("Your connections")
    # The list is as old as the last time it was opened; the rows behind it lag by a second or two.
    for _ in range(50):
        with here.expect_response("**/ws-auth/connections/") as answer:
            summary.click()
        if len(answer.value.json()["connections"]) == 2:
            break
        summary.click()
    expect(items).to_have_count(2)
    expect(items.filter(has_text="this login")).to_have_count(1)
    here.get_by_role("button", name="End all others").click()
    expect(status(elsewhere)).to_contain_text("(disconnected)")
    expect(status(here)).to_have_text("Connected")
    expect(status(stranger)).to_have_text("Connected")
    assert not visitors.violations()
