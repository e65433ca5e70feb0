"""What the pages are without a socket: reachable by name and keyboard, tight, and served with a policy that bites."""

import pytest

from tests.browser.driver import Axe, Page, expect
from tests.browser.example import Example, Visitors

pytestmark = pytest.mark.browser

PATHS = (
    "/",
    "/rooms/lobby/",
    "/rooms/book-club/",
    "/login/",
    "/wire/",
    "/admin/",
    "/admin/channels_secure/auditevent/",
    "/admin/channels_secure/block/add/",
)
PHONE = {"width": 360, "height": 640}


@pytest.fixture
def example(shared_example: Example) -> Example:
    return shared_example


def test_every_page_carries_a_policy_and_violates_it_nowhere(visitors: Visitors) -> None:
    page = visitors.arrive("admin")
    for path in PATHS:
        response = page.goto(path)
        assert response is not None
        assert response.status == 200, path
        assert response.headers["content-security-policy"].startswith("default-src 'self';"), path
    assert visitors.violations() == []


def test_an_injected_script_does_not_run_and_is_noticed(visitors: Visitors) -> None:
    page = visitors.arrive()
    inject = "document.body.append(Object.assign(document.createElement('script'), {text: 'window.injected = true'}))"
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate(inject)
    assert page.evaluate("window.injected") is None
    assert visitors.violations() != []
    visitors.console.clear()


def test_the_socket_of_another_host_is_forbidden_by_the_policy(visitors: Visitors) -> None:
    page = visitors.arrive()
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("() => { new WebSocket('wss://chat.example.com/'); }")
    visitors.console.clear()


@pytest.mark.parametrize(
    ("username", "path"),
    [(None, "/"), (None, "/rooms/lobby/"), (None, "/login/"), ("alice", "/"), ("alice", "/rooms/den/")],
)
def test_a_phone_shows_the_page_without_scrolling_sideways(visitors: Visitors, username: str | None, path: str) -> None:
    page = visitors.arrive(username, path, viewport=PHONE)
    expect(page.get_by_role("heading", level=1)).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_words_stand_out_from_their_ground(visitors: Visitors, scheme: str) -> None:
    page = visitors.arrive(path="/rooms/lobby/", color_scheme=scheme)
    expect(page.get_by_role("status")).to_contain_text("unauthenticated")
    for selector in ("h1", "#status", "#say label", "summary", ".bar a", "#log-in"):
        # WCAG 2.2, success criterion 1.4.3: 4.5 to 1 for text of this size.
        assert contrast(page, selector) >= 4.5, selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/rooms/lobby/", "/rooms/den/", "/rooms/book-club/"])
def test_nobody_is_shut_out_of_the_chat(visitors: Visitors, path: str, scheme: str) -> None:
    # The policy would keep the examiner's own style from its page.
    page = visitors.arrive("alice", path, color_scheme=scheme, bypass_csp=True)
    if path != "/":
        expect(page.locator("#people li").first).to_be_visible()
    for summary in page.locator("summary:visible").all():
        summary.click()
    found = [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in Axe().run(page).response["violations"]]
    assert found == []


def contrast(page: Page, selector: str) -> float:
    ratio: float = page.locator(selector).first.evaluate(CONTRAST)
    return ratio


CONTRAST = """(element) => {
  const channels = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3)
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const background = (node) => getComputedStyle(node).backgroundColor;
  let ground = element;
  while (ground.parentElement && channels(background(ground))[3] === 0) ground = ground.parentElement;
  const pair = [getComputedStyle(element).color, background(ground)].map(light);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""
