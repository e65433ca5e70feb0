"""The wrong click does nothing, who may only look is offered nothing else, and the pages keep themselves up to date."""

import csv
import io
import re
from pathlib import Path

import pytest

from tests.browser.driver import Page, expect
from tests.browser.example import Example, Visitors
from tests.browser.test_operator_attack import ADMIN, OPERATOR, behind_a_proxy

pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize("shared_example", [behind_a_proxy], ids=["daphne"], indirect=True, scope="module"),
]

BLOCKS = f"{ADMIN}/block/"


@pytest.fixture
def example(shared_example: Example) -> Example:
    return shared_example


@pytest.fixture
def operator(visitors: Visitors) -> Page:
    return visitors.arrive("admin", "/admin/", extra_http_headers={"X-Forwarded-For": OPERATOR})


@pytest.mark.parametrize(
    ("query", "warning"),
    [("user=admin", "This is your own account."), (f"network={OPERATOR}", f"Your own address, {OPERATOR}")],
    ids=["account", "address"],
)
def test_nobody_locks_themselves_out_with_a_wrong_click(operator: Page, query: str, warning: str) -> None:
    operator.goto(f"{BLOCKS}add/?{query}")
    expect(operator.get_by_text(warning)).to_be_visible()
    block = operator.get_by_role("button", name="Block", exact=True)
    block.click()
    expect(operator.get_by_text("Nothing has been blocked.")).to_be_visible()
    confirmation = operator.get_by_label("To block it all the same")
    confirmation.fill("yes")
    block.click()
    expect(operator.get_by_text("Nothing has been blocked.")).to_be_visible()
    operator.goto(f"{BLOCKS}?state=active")
    expect(operator.locator("#result_list")).to_have_count(0)


def test_who_changes_their_mind_has_changed_nothing(visitors: Visitors, operator: Page) -> None:
    alice = visitors.arrive("alice", "/rooms/lobby/")
    expect(alice.get_by_role("status")).to_have_text("Connected")
    operator.goto("/admin/auth/user/?q=alice")
    operator.get_by_role("link", name="alice", exact=True).click()
    here = operator.url
    operator.get_by_role("link", name="Disconnect", exact=True).click()
    operator.get_by_role("link", name="No, take me back").click()
    expect(operator).to_have_url(here)
    operator.get_by_role("link", name="Block from WebSockets").click()
    expect(operator.get_by_role("button", name="Block", exact=True)).to_be_visible()
    operator.go_back()
    expect(operator.get_by_text("Not blocked.")).to_be_visible()
    expect(alice.get_by_role("status")).to_have_text("Connected")
    assert alice.evaluate("window.sockets.length") == 1


def test_who_may_only_look_is_offered_nothing_else(visitors: Visitors) -> None:
    page = visitors.arrive("victor", f"{ADMIN}/auditevent/dashboard/")
    expect(page.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()
    for path in ("/auditevent/dashboard/", "/auditevent/", "/block/", "/liveconnection/"):
        page.goto(ADMIN + path)
        expect(page.get_by_role("link", name=re.compile("^(Block|Disconnect|Add) "))).to_have_count(0)
        expect(page.get_by_role("button", name=re.compile("^(Export|Lift|Go|Run)"))).to_have_count(0)


def test_the_dashboard_keeps_itself_up_to_date_and_can_be_told_to_stop(visitors: Visitors, operator: Page) -> None:
    # Ten seconds at a time, which the page's own clock passes at once.
    operator.clock.install()
    operator.goto(f"{ADMIN}/auditevent/dashboard/?period=1h")
    expect(operator.get_by_role("button", name="Pause updates")).to_be_visible()
    operator.evaluate("window.mark = 'the same page'")
    carol = visitors.arrive("carol", "/rooms/lobby/")
    carol.get_by_text("Try what the server refuses").click()
    carol.get_by_role("button", name="12 messages at once").click()
    line = operator.locator("#cs-top-users").get_by_role("row").filter(has_text="carol")
    for _ in range(20):
        with operator.expect_response("**/dashboard/?*part=1"):
            operator.clock.fast_forward(60_000)
        if line.is_visible():
            break
    expect(line).to_be_visible()
    assert operator.evaluate("window.mark") == "the same page"
    operator.get_by_role("button", name="Pause updates").click()
    expect(operator.get_by_role("status")).to_contain_text("Paused")


@pytest.mark.parametrize("shape", ["CSV", "NDJSON"])
def test_what_the_list_shows_is_downloaded(operator: Page, shape: str) -> None:
    operator.goto(f"{ADMIN}/auditevent/")
    with operator.expect_download() as started:
        operator.get_by_role("button", name=f"Export as {shape}").click()
    assert re.fullmatch(rf"audit-\d{{8}}T\d{{6}}Z\.{shape.lower()}", started.value.suggested_filename)
    content = Path(started.value.path()).read_text()
    if shape == "CSV":
        content = "\n".join(",".join(row) for row in csv.reader(io.StringIO(content)))
    assert "connection" in content or "handshake" in content or not content.strip()
