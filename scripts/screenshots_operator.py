"""Takes the pictures of the operator's pages, each in light, in dark and on a phone, while an attack is under way."""

from collections.abc import Iterator
from pathlib import Path

from tests.browser.attackers import attack
from tests.browser.driver import Browser, Page, expect
from tests.browser.example import Example, Visitors, reload_until_there

DESK = {"width": 1280, "height": 800}
PHONE = {"width": 375, "height": 720}
LOOKS: dict[str, dict[str, object]] = {
    "light": {"viewport": DESK},
    "dark": {"viewport": DESK, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True},
}
ADMIN = "/admin/channels_secure"
# RFC 5737: where the attack comes from, and the operator.
ATTACK, OPERATOR = ("198.51.100.7", "198.51.100.8", "198.51.100.31"), "192.0.2.99"


def photograph_operator(browser: Browser, example: Example, sessions: dict[str, str], folder: Path) -> None:
    """Put the pictures into a folder, named after page and look."""
    people = Visitors(browser=browser, example=example, sessions=sessions)
    for username in ("alice", "carol"):
        chat = people.arrive(username, "/rooms/lobby/")
        expect(chat.get_by_role("status")).to_have_text("Connected")
    headers = {"X-Forwarded-For": OPERATOR}
    with attack(example, sessions["bob"], *ATTACK):
        scout = people.arrive("admin", "/admin/", extra_http_headers=headers)
        # The trail is written twice a second, the live connections a second or two late.
        reload_until_there(scout, f"{ADMIN}/auditevent/dashboard/", scout.get_by_role("link", name="Block bob"))
        reload_until_there(
            scout, f"{ADMIN}/liveconnection/?q=bob", scout.get_by_role("link", name="Disconnect bob").first
        )
        pages = dict(_pages(scout))
        for look, options in LOOKS.items():
            page = people.arrive("admin", "/admin/", extra_http_headers=headers, **options)
            for name, address in pages.items():
                page.goto(address)
                # The whole of what is seen first; a phone would make a ribbon of it.
                is_whole = name == "dashboard" and look != "phone"
                _take(page, folder / f"operator-{name}-{look}.png", is_whole=is_whole)
    people.leave()


def _pages(scout: Page) -> Iterator[tuple[str, str]]:
    """The addresses of the pages that have something to show."""
    yield "dashboard", f"{ADMIN}/auditevent/dashboard/?period=1h"
    yield "audit", f"{ADMIN}/auditevent/?kind=message.denied"
    scout.goto(f"{ADMIN}/auditevent/?kind=message.denied&q=bob")
    yield "event", _href(scout, "#result_list tbody th a")
    yield "block", f"{ADMIN}/block/add/?network=198.51.100.0/24"
    yield "live", f"{ADMIN}/liveconnection/"
    scout.goto("/admin/auth/user/?q=bob")
    user = _href(scout, "#result_list tbody th a")
    yield "user", user
    yield "disconnect", f"{ADMIN}/liveconnection/disconnect/?user={user.split('/')[-3]}"


def _href(page: Page, selector: str) -> str:
    found: str = page.locator(selector).first.evaluate("link => new URL(link.href).pathname")
    return found


def _take(page: Page, path: Path, *, is_whole: bool) -> None:
    # On the page of a user, what is ours comes last.
    panel = page.locator("fieldset").filter(has=page.locator(".cs-panel"))
    if panel.count():
        panel.evaluate("panel => panel.scrollIntoView()")
    page.screenshot(path=path, full_page=is_whole, animations="disabled", scale="css")
