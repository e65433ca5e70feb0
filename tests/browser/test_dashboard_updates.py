"""The dashboard brings itself up to date, and neither steals the focus nor goes on where it may not."""

from collections.abc import Iterator

import pytest

from tests.browser.driver import Page, expect
from tests.browser.example import Example, Visitors

pytestmark = pytest.mark.browser

DASHBOARD = "/admin/channels_secure/auditevent/dashboard/"
INTERVAL = 10_000
PART = "**/dashboard/?period=*&part=1"


@pytest.fixture
def dashboard(visitors: Visitors, example: Example) -> Iterator[Page]:
    """The dashboard in front of an operator, with a clock that the test winds on."""
    page = visitors.arrive("admin", "/admin/")
    page.clock.install()
    page.goto(f"{DASHBOARD}?period=1h")
    yield page
    assert visitors.errors == []
    assert visitors.violations() == []


def look_again(page: Page, intervals: int = 1) -> None:
    """Wind the clock on until the page has asked once more."""
    with page.expect_response(PART):
        page.clock.run_for(INTERVAL * intervals)


def see_bob_arrive(dashboard: Page, visitors: Visitors) -> None:
    """Let something happen, and wait until the page shows it by itself: the trail is written twice a second."""
    room = visitors.arrive("bob", "/rooms/lobby/")
    expect(room.get_by_role("status")).to_have_text("Connected")
    client = dashboard.locator("[data-cs-part=latest]").get_by_text("bob").first
    for _ in range(10):
        if client.count():
            break
        look_again(dashboard)
    expect(client).to_be_attached()
    # Once more for the chart, which is counted before that list is read.
    look_again(dashboard)


def test_what_happens_appears_without_a_reload_and_leaves_focus_and_scrolling(
    dashboard: Page, visitors: Visitors
) -> None:
    dashboard.set_viewport_size({"width": 375, "height": 500})
    link = dashboard.locator("#cs-tile-blocks a")
    link.focus()
    dashboard.evaluate("scrollTo(0, 200)")
    see_bob_arrive(dashboard, visitors)
    expect(dashboard.locator("#cs-tile-blocks a")).to_be_focused()
    assert dashboard.evaluate("scrollY") == 200


def test_the_table_stays_open_and_a_marked_text_stays_marked(dashboard: Page, visitors: Visitors) -> None:
    see_bob_arrive(dashboard, visitors)
    dashboard.locator("summary").click()
    dashboard.evaluate("getSelection().selectAllChildren(document.querySelector('#cs-said'))")
    # To the microsecond: two answers may come within a second.
    updated = dashboard.locator("[data-cs-updated]")
    before = updated.get_attribute("datetime") or ""
    dashboard.mouse.move(0, 0)
    look_again(dashboard)
    expect(dashboard.locator("details[open]")).to_have_count(1)
    assert dashboard.evaluate("getSelection().isCollapsed") is False
    expect(updated).to_have_attribute("datetime", before)
    dashboard.evaluate("getSelection().removeAllRanges()")
    look_again(dashboard)
    expect(updated).not_to_have_attribute("datetime", before)
    expect(dashboard.locator("details[open]")).to_have_count(1)


def test_a_server_that_does_not_answer_is_said_until_it_does(dashboard: Page) -> None:
    status = dashboard.locator("[data-cs-status]")
    expect(status).to_be_empty()
    dashboard.route(PART, lambda route: route.fulfill(status=502, body="Bad gateway"))
    look_again(dashboard)
    expect(status).to_contain_text("The server does not answer: these figures are from")
    dashboard.unroute(PART)
    look_again(dashboard, 2)
    expect(status).to_have_text("Updates by itself again.")


def test_nothing_is_asked_while_it_is_paused(dashboard: Page) -> None:
    asked: list[str] = []
    dashboard.on("request", lambda request: asked.append(request.url) if "part=1" in request.url else None)
    button = dashboard.get_by_role("button", name="Pause updates")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(dashboard.locator("[data-cs-status]")).to_contain_text("Paused: these figures are from")
    dashboard.clock.run_for(INTERVAL * 5)
    assert asked == []
    with dashboard.expect_response(PART):
        button.click()
    expect(button).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("is_logged_out", [True, False], ids=["logged out", "refused"])
def test_it_ends_where_it_may_not_look_any_more(dashboard: Page, is_logged_out: bool) -> None:
    asked: list[str] = []
    dashboard.on("request", lambda request: asked.append(request.url) if "part=1" in request.url else None)
    if is_logged_out:
        dashboard.context.clear_cookies()
    else:
        dashboard.route(PART, lambda route: route.fulfill(status=403, body="Forbidden"))
    dashboard.clock.run_for(INTERVAL)
    expect(dashboard.locator("[data-cs-status]")).to_contain_text("No longer allowed, or logged out")
    expect(dashboard.get_by_role("button", name="Pause updates")).to_be_hidden()
    dashboard.clock.run_for(INTERVAL * 10)
    assert len(asked) == 1


def test_without_scripts_there_is_a_link_that_reloads(visitors: Visitors) -> None:
    page = visitors.arrive("admin", f"{DASHBOARD}?period=7d", java_script_enabled=False)
    expect(page.get_by_role("button", name="Pause updates")).to_be_hidden()
    page.get_by_role("link", name="Reload").click()
    expect(page.locator("[aria-current=page]").filter(has_text="7 d")).to_be_visible()
