"""The page that describes the wire, in Chromium: its policy, a phone, both colour schemes, and axe-core's findings."""

import pytest

from tests.browser.driver import Axe, Page, expect
from tests.browser.example import Example, Visitors

pytestmark = pytest.mark.browser

PATH = "/ws-auth/asyncapi/"
PHONE = {"width": 360, "height": 640}


@pytest.fixture
def example(shared_example: Example) -> Example:
    return shared_example


def findings(page: Page) -> list[str]:
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in Axe().run(page).response["violations"]]


def test_the_staff_reads_how_the_example_talks(visitors: Visitors) -> None:
    page = visitors.arrive("admin")
    response = page.goto(PATH)
    assert response is not None
    assert response.headers["content-security-policy"].startswith("default-src 'self';")
    expect(page.locator("code.address").first).to_have_text("/ws/chat/{room}/")
    expect(page.get_by_role("heading", level=3, name="From the client").first).to_be_visible()
    page.get_by_role("link", name="Refusals").click()
    expect(page.get_by_role("heading", level=2, name="Refusals")).to_be_in_viewport()
    assert visitors.violations() == []


def test_a_phone_shows_it_without_scrolling_sideways(visitors: Visitors) -> None:
    page = visitors.arrive("admin", viewport=PHONE)
    page.goto(PATH)
    expect(page.get_by_role("heading", level=1)).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(visitors: Visitors, scheme: str) -> None:
    # The policy would keep the examiner's own style from its page.
    page = visitors.arrive("admin", color_scheme=scheme, bypass_csp=True)
    page.goto(PATH)
    assert findings(page) == []
    page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    assert [each.partition(":")[0] for each in findings(page)] == ["label"]
