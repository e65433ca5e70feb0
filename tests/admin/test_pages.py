"""Every operator's page, whichever there are: what others wrote does nothing on it, and who may not, can not."""

from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.forms.models import model_to_dict
from django.http import HttpResponse
from django.test import Client
from django.utils.html import escape

from channels_secure.admin.base import ModelAdmin
from channels_secure.models import AuditEvent, Block, LiveConnection, Revocation
from channels_secure.rooms.models import Membership, Room
from tests.admin.pages import PAYLOADS, PREFIX, World, addresses, names, populate

# Whoever asks without it is refused, or has to say more, or to POST.
REFUSALS = {400, 403, 405}
OWN = [name for name in names() if name.startswith(PREFIX)]
# Those on which everything of a world stands.
SHOWING = (
    "auditevent_changelist",
    "auditevent_change",
    "block_changelist",
    "block_change",
    "dashboard",
    "liveconnection_changelist",
    "liveconnection_change",
    "liveconnection_disconnect",
    "rooms_room_changelist",
    "rooms_room_change",
    "rooms_membership_changelist",
)
# Attributes that a browser follows.
LEADING = {"href", "src", "action", "formaction", "data", "xlink:href"}
IS_UNFOLD = ModelAdmin.__module__.startswith("unfold")

pytestmark = [
    pytest.mark.django_db,
    # What it does itself; for our own the warning stands.
    *([pytest.mark.filterwarnings("ignore:Overriding get_action_choices")] if IS_UNFOLD else []),
]


class Reader(HTMLParser):
    """What of a page is alive that a payload brought, and what is inline."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.alive: list[str] = []
        self.inline: list[str] = []
        self.text = ""
        self._runs = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: (value or "").strip() for name, value in attrs}
        # A script of another type is data.
        self._runs = tag == "style" or (tag == "script" and "json" not in facts.get("type", ""))
        if self._runs and "src" not in facts:
            self.inline.append(tag)
        if tag == "x-evil":
            self.alive.append(tag)
        for name, value in facts.items():
            self._look(name, value)

    def _look(self, name: str, value: str) -> None:
        leads = name in LEADING and value.lower().startswith("javascript:")
        if leads or name == "x-evil" or (name.startswith("on") and "evil" in value):
            self.alive.append(f"{name}={value}")
        if name == "style" or name.startswith("on"):
            self.inline.append(f"{name}={value}")

    def handle_data(self, data: str) -> None:
        if self._runs and "evil" in data:
            self.alive.append(data)
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._runs = False


def answers(client: Client, name: str, *texts: str) -> list[tuple[str, HttpResponse]]:
    """What each address of a page answers in a world full of these texts."""
    worlds = [populate(text, number) for number, text in enumerate(texts)]
    # A list shows them all at once.
    every = dict.fromkeys(address for world in worlds for address in addresses(name, world))
    return [(address, client.get(address)) for address in every]


def is_page(response: HttpResponse) -> bool:
    return response.status_code == 200 and response.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("name", names())
def test_what_others_wrote_does_nothing(admin: Client, name: str) -> None:
    for address, response in answers(admin, name, *PAYLOADS):
        if is_page(response):
            assert Reader(response.content.decode()).alive == [], address
        elif response.status_code == 200:
            # What is not for a person to look at must not be taken for a page.
            assert response.headers["Content-Type"].partition(";")[0] in {"application/json", "text/javascript"}
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        else:
            assert response.status_code in {*REFUSALS, 302}, address


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_others_wrote_is_shown_as_they_wrote_it(admin: Client, payload: str) -> None:
    """Otherwise the test above could pass because nothing is shown."""
    world = populate(payload)
    for name in SHOWING:
        address = addresses(PREFIX + name, world)[2 if name.endswith("disconnect") else 0]
        assert escape(payload[:40]) in admin.get(address).content.decode(), name


@pytest.mark.parametrize(
    "word", ["<x-evil>", '<p x-evil="1">', '<a href=" javascript:evil()">', "<script>evil()</script>"]
)
def test_the_reader_sees_what_is_alive(word: str) -> None:
    assert Reader(f"<p>{word}</p>").alive
    assert not Reader(f"<p title='{escape(word)}'>{escape(word)}</p>").alive
    assert not Reader(f'<script type="application/json">{escape(word)}</script>').alive


@pytest.mark.parametrize("name", OWN)
def test_no_page_needs_an_inline_script_or_style(admin: Client, name: str) -> None:
    for address, response in answers(admin, name, "alice"):
        if is_page(response):
            # Unfold itself has them.
            assert IS_UNFOLD or Reader(response.content.decode()).inline == [], address


# Who may not ---------------------------------------------------------------------------------------------------------

KEPT = (AuditEvent, Block, LiveConnection, Membership, Revocation, Room, User)
VIEWING = (
    "view_auditevent",
    "view_block",
    "view_liveconnection",
    "view_dashboard",
    "view_user",
    "view_room",
    "view_membership",
)
# What a page would lead to, or send, if it offered more than to look.
BEHIND_A_PERMISSION = ("block/add/", "/lift/", "/disconnect/", "export/", 'name="action"', 'name="_save"')


def forms(world: World) -> list[dict[str, object]]:
    """Whatever some page's form or action might send."""
    person, connection = {"user": world.user.pk}, world.connection
    chosen = [row.pk for row in (world.event, world.block, world.connection, world.user, world.room)]
    actions = {
        str(getattr(action, "__name__", action)) for each in site._registry.values() for action in each.actions or ()
    }
    known: list[dict[str, object]] = [
        {"format": "csv"},
        person,
        {**person, "network": "", "duration": "3600", "reason": "spam", "confirmation": world.user.username},
        {"user": "", "network": "203.0.113.9", "duration": "", "reason": "spam"},
        {"connection": connection.connection_id},
        {"ip": connection.ip},
        *(
            {"action": action, "_selected_action": chosen, "confirmed": action, "duration": "3600"}
            for action in sorted(actions | {"delete_selected"})
        ),
    ]
    return [{**form, "post": "yes", "_save": "Save"} for form in known]


def rows() -> dict[str, list[dict[str, object]]]:
    """Everything that a page could change, but for when somebody last logged in."""
    return {
        model.__name__: [{**model_to_dict(row), "last_login": None} for row in model._default_manager.order_by("pk")]
        for model in KEPT
    }


@pytest.mark.parametrize("name", OWN)
def test_looking_changes_nothing(admin: Client, name: str) -> None:
    world = populate("alice")
    before = rows()
    for address in addresses(name, world):
        admin.get(address)
        admin.head(address)
    assert rows() == before


@pytest.mark.parametrize("name", OWN)
def test_a_stranger_is_asked_to_log_in(client: Client, name: str) -> None:
    for address in addresses(name, populate("alice")):
        for response in (client.get(address), client.post(address)):
            assert response.status_code == 302
            assert response.headers["Location"].startswith("/admin/login/?next=")


@pytest.mark.parametrize("name", OWN)
def test_who_has_no_permission_sees_nothing_and_does_nothing(operator_with: Callable[..., Client], name: str) -> None:
    client, world = operator_with(), populate("alice")
    before = rows()
    for address in addresses(name, world):
        assert client.get(address).status_code in {403, 405}, address
        for form in forms(world):
            assert client.post(address, form).status_code in {403, 405}, address
    assert rows() == before


@pytest.mark.parametrize("name", names())
def test_who_may_only_look_finds_no_button_and_changes_nothing(operator_with: Callable[..., Client], name: str) -> None:
    client, world = operator_with(*VIEWING), populate("alice")
    before = rows()
    for address in addresses(name, world):
        response = client.get(address)
        if is_page(response):
            html = response.content.decode()
            assert [link for link in BEHIND_A_PERMISSION if link in html] == [], address
        for form in forms(world):
            client.post(address, form)
    assert rows() == before


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_done_for_another_site(root: User, name: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(root)
    world = populate("alice")
    before = rows()
    for address in addresses(name, world):
        for form in forms(world):
            assert client.post(address, form).status_code == 403, address
    assert rows() == before
