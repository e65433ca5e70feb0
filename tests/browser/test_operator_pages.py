"""Every operator's page in a browser: no policy is violated, nobody is shut out, and a phone shows it whole."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.admin.pages import OF_USERS, names
from tests.browser.driver import Axe, Browser, Page
from tests.browser.example import Server, Visitors, copy_database, daphne, manage, running_example

pytestmark = pytest.mark.browser

PHONE = {"width": 375, "height": 700}
DESK = {"width": 1280, "height": 900}
# What is hostile, and texts without a place to break a line.
POPULATE = """
import json
from tests.admin.pages import PAYLOADS, addresses, names, populate
worlds = [populate(PAYLOADS[1]), populate("w" * 256, 1, username="carla")]
print(json.dumps({name: [address for world in worlds for address in addresses(name, world)] for name in names()}))
"""
# Pages on which nothing is the package's.
PLAIN = ("_history", "_delete", "_password_change", "user_add")
SHOWN = [name for name in names() if not name.endswith(PLAIN)]
# Pages that look otherwise for each question.
MOST = {"add": 3, "disconnect": 3}
# What is to be said of Django's and unfold's own markup, in projects without the package too.
OF_OTHERS = (
    ".breadcrumbs",
    "#searchbar",
    "#nav-sidebar",
    "#header",
    "label .help-tooltip",
    ".text-link",
    "[id^=lookup_id_] + a",
    "[id^=lookup_id_] ~ *",
)


def unfold(port: int) -> list[str]:
    return [*daphne(port), "--settings", "tests.browser.unfold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A running example that is full of hostile text, and the addresses of its pages by their names."""

    people: Visitors
    pages: dict[str, list[str]]
    opened: dict[str, Page] = field(default_factory=dict)

    def look(self, purpose: str, **options: object) -> Page:
        """The admin's one page for a purpose, opened at the first use."""
        if purpose not in self.opened:
            self.opened[purpose] = self.people.arrive("admin", "/admin/", **options)
        return self.opened[purpose]

    def shown(self, page: Page, name: str) -> list[str]:
        """The addresses of a page that is one; others take a form, or are refused to everybody."""
        return [
            address
            for address in dict.fromkeys(self.pages[name])
            if (answer := page.request.get(address, max_redirects=0)).status == 200
            and answer.headers["content-type"].startswith("text/html")
            # What a page asks for by itself is a part of one.
            and "<html" in answer.text()
        ]


@pytest.fixture(scope="module", params=[daphne, unfold], ids=["stock", "unfold"])
def site(
    request: pytest.FixtureRequest,
    browser: Browser,
    seeded_database: Path,
    sessions: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    server: Server = request.param
    directory = tmp_path_factory.mktemp("site")
    database = copy_database(seeded_database, directory / "db.sqlite3")
    pages = json.loads(manage(database, "shell", "--no-imports", "-c", POPULATE).splitlines()[-1])
    with running_example(database, directory / "server.log", server=server) as example:
        people = Visitors(browser=browser, example=example, sessions=sessions)
        yield Site(people=people, pages=pages)
        people.leave()
    # Django logs a traceback with each 403.
    assert '" 500 ' not in example.log.read_text()


@pytest.mark.parametrize("name", SHOWN)
def test_nothing_hostile_runs_no_policy_is_violated_and_a_phone_shows_it_whole(site: Site, name: str) -> None:
    page = site.look("phone", viewport=PHONE)
    for address in site.shown(page, name):
        page.goto(address)
        assert page.locator("x-evil, [x-evil]").count() == 0, address
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address
        assert site.people.errors == [], address
        assert site.people.violations() == [], address


@pytest.mark.parametrize("name", SHOWN)
def test_nobody_is_shut_out(site: Site, name: str) -> None:
    # The policy would keep the examiner's own style from its page.
    page = site.look("desk", viewport=DESK, bypass_csp=True)
    # With other rows in it, it is the same page.
    for address in site.shown(page, name)[: MOST.get(name.rpartition("_")[2], 1)]:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto(address)
            page.add_style_tag(content="* { transition: none !important; animation: none !important; }")
            assert findings(page, ".cs-panel" if name.startswith(OF_USERS) else "body") == [], f"{address} in {scheme}"


def test_who_would_be_shut_out_is_found(site: Site) -> None:
    page = site.look("desk", viewport=DESK, bypass_csp=True)
    page.goto("/admin/channels_secure/")
    assert findings(page, "body") == []
    page.evaluate("document.querySelector('#content, #main').append(document.createElement('input'))")
    (found,) = findings(page, "body")
    assert found.startswith("label: <input>")


# Where the parts of an address begin, if the page were one in Arabic, say.
BEGINNINGS = """
place => {
  document.documentElement.dir = "rtl";
  place.textContent = "2001:db8::/48";
  const range = document.createRange();
  return [0, 5, 10, 11].map((number) => {
    range.setStart(place.firstChild, number);
    range.setEnd(place.firstChild, number + 1);
    return range.getBoundingClientRect().left;
  });
}
"""


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("channels_secure_auditevent_changelist", "#result_list .cs-line"),
        ("channels_secure_dashboard", "#cs-top-networks tbody th"),
        ("channels_secure_dashboard", "[data-cs-part=latest] td .cs-line"),
    ],
)
def test_addresses_keep_their_order_on_a_page_that_is_read_from_right_to_left(
    site: Site, name: str, place: str
) -> None:
    page = site.look("desk", viewport=DESK, bypass_csp=True)
    page.goto(site.pages[name][0])
    lefts = page.locator(place).first.evaluate(BEGINNINGS)
    assert lefts == sorted(lefts)


def findings(page: Page, part: str) -> list[str]:
    """What axe-core calls serious or critical in a part of a page, one line for each element."""
    if not page.locator(part).count():
        return []
    found = Axe().run(page, context={"include": [[part]], "exclude": [[each] for each in OF_OTHERS]})
    return [
        f"{violation['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
        for violation in found.response["violations"]
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]
