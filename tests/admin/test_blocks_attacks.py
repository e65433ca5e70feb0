"""What somebody who wants a block made, or not made, might try with the operator's pages."""

import threading
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from channels_secure import blocklist
from channels_secure.models import AuditEvent, Block, PolicyVersion
from tests.admin.conftest import OPERATOR, client_of, page
from tests.admin.live_rows import socket
from tests.conftest import MakeUser

BLOCKS = "/admin/channels_secure/block/"
ADD = f"{BLOCKS}add/"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7|add:7 }}%(x)s\u202e'


def fields(**given: str) -> dict[str, str]:
    return {"user": "", "network": "", "duration": "86400", "reason": "", "_save": "", **given}


# Requests that another site makes the browser send -------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("target", ["add", "preview", "lift", "action"])
def test_nothing_is_done_without_a_csrf_token(root: User, user: User, target: str) -> None:
    block = blocklist.block(network="203.0.113.7")
    client = Client(enforce_csrf_checks=True, REMOTE_ADDR=OPERATOR)
    client.force_login(root)
    selected = {"action": "lift_selected", "_selected_action": block.pk, "confirmed": "lift_selected"}
    url, data = {
        "add": (ADD, fields(user=str(user.pk))),
        "preview": (ADD, fields(user=str(user.pk), _preview="")),
        "lift": (f"{BLOCKS}{block.pk}/lift/", {}),
        "action": (BLOCKS, selected),
    }[target]
    assert client.post(url, data).status_code == 403
    assert list(Block.objects.active()) == [block]


@pytest.mark.django_db
def test_no_address_that_is_opened_changes_anything(admin: Client, user: User) -> None:
    block = blocklist.block(network="203.0.113.7")
    everything = f"user={user.pk}&duration=&reason=x&confirmation=alice&_save=Block&post=yes&confirmed=lift_selected"
    for url in (
        f"{ADD}?{everything}",
        f"{ADD}?{everything}&_preview=",
        f"{BLOCKS}{block.pk}/lift/?{everything}",
        f"{BLOCKS}{block.pk}/change/?{everything}",
        f"{BLOCKS}?action=lift_selected&_selected_action={block.pk}",
    ):
        for method in (admin.get, admin.head):
            assert method(url).status_code in (200, 302, 400)
    assert list(Block.objects.all()) == [block]
    assert block.is_active
    assert AuditEvent.objects.count() == 1


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "http:evil.example",
    "javascript:alert(1)",
    " //evil.example",
    "/\t/evil.example",
    "https://testserver@evil.example/",
    "https://testserver.evil.example/",
    "\x00//evil.example",
    "%0d%0aSet-Cookie:x=y",
]


@pytest.mark.django_db
@pytest.mark.parametrize("wanted", ELSEWHERE)
def test_no_redirect_leads_away(admin: Client, user: User, wanted: str) -> None:
    made = admin.post(f"{ADD}?next={quote(wanted)}", fields(user=str(user.pk)))
    block = Block.objects.get()
    assert made.status_code == 302
    # What is no other place is a path below the admin's own.
    assert made.url == f"{BLOCKS}{block.pk}/change/" or "evil.example" not in made.url
    for data in ({}, {"next": wanted}):
        query = f"?next={quote(wanted)}"
        asked = page(admin, f"{BLOCKS}{block.pk}/lift/{query}")
        assert "evil.example" not in asked.replace(quote(wanted), "")
        lifted = admin.post(f"{BLOCKS}{block.pk}/lift/{query}", data)
        assert lifted.status_code == 302
        assert "evil.example" not in lifted.url


@pytest.mark.django_db
def test_the_way_back_over_https_stays_on_https(admin: Client, user: User) -> None:
    response = admin.post(f"{ADD}?next=http://testserver/admin/", fields(user=str(user.pk)), secure=True)
    assert response.url == f"{BLOCKS}{Block.objects.get().pk}/change/"


# Names and reasons ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_hostile_names_and_reasons_are_text_on_every_page(admin: Client, make_user: MakeUser) -> None:
    mallory = make_user(HOSTILE, is_staff=True)
    socket("mallory", mallory, ip="203.0.113.7", username=HOSTILE)
    first = blocklist.block(user=mallory, reason=HOSTILE, by=mallory, duration=60)
    block = blocklist.block(user=mallory, reason=HOSTILE, by=mallory)
    AuditEvent.objects.create(
        kind="handshake.denied", reason="blocked", username=HOSTILE, ip=HOSTILE[:64], detail={"block": block.pk}
    )
    blocklist.lift([first.pk], by=mallory)
    urls = [
        BLOCKS,
        f"{BLOCKS}{block.pk}/change/",
        f"{BLOCKS}{first.pk}/change/",
        f"{BLOCKS}{block.pk}/lift/",
        f"{ADD}?user={mallory.pk}&reason={quote(HOSTILE)}&next={quote(HOSTILE)}",
        f"{ADD}?network=203.0.113.0/24",
        f"{ADD}?user={quote(HOSTILE)}x",
        f"{ADD}?network={quote(HOSTILE)}",
        f"{BLOCKS}?q={quote(HOSTILE)}&state={quote(HOSTILE)}",
    ]
    answers = [page(admin, url) for url in urls]
    posts = [
        (ADD, fields(user=str(mallory.pk), reason=HOSTILE, confirmation=HOSTILE)),
        (ADD, fields(network=HOSTILE, duration=HOSTILE)),
        (BLOCKS, {"action": "lift_selected", "_selected_action": [block.pk]}),
    ]
    answers += [admin.post(url, data, follow=True).content.decode() for url, data in posts]
    for html in answers:
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert "alert(1)" not in html or "&lt;script&gt;alert(1)" in html
        assert "}}14" not in html
    assert "&lt;script&gt;alert(1)" in answers[1]


@pytest.mark.django_db
def test_the_message_about_what_was_done_is_text(admin: Client, make_user: MakeUser) -> None:
    mallory = make_user(HOSTILE.replace("\u202e", ""))
    html = admin.post(ADD, fields(user=str(mallory.pk)), follow=True).content.decode()
    assert Block.objects.get().user == mallory
    assert "<script>alert" not in html
    assert "Blocked until" in html


# Forged fields -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    "forged",
    [
        {"confirmed": "yes"},
        {"post": "yes"},
        {"plan": "", "hazards": "", "problems": ""},
        {"request": "x", "is_confirmed": "1", "own": "0", "staff": ""},
        {"confirmation": "alice"},
        {"confirmation": "203.0.113.7/32"},
        {"_continue": "", "_addanother": "", "_popup": "1"},
        {"created_by": "1", "automatic": "on", "expires_at": "2000-01-01", "lifted_at": "2000-01-01"},
    ],
)
def test_no_forged_field_stands_for_what_must_be_typed(admin: Client, root: User, forged: dict[str, str]) -> None:
    for subject in ({"user": str(root.pk)}, {"network": OPERATOR}):
        assert admin.post(ADD, fields(**subject, **forged)).status_code == 200
        assert admin.post(f"{BLOCKS}1/change/", fields(**subject, **forged, _saveasnew="")).status_code in (200, 403)
    assert not Block.objects.exists()


@pytest.mark.django_db
def test_what_was_typed_for_one_subject_does_not_serve_another(admin: Client, root: User, make_user: MakeUser) -> None:
    carol = make_user("carol", is_staff=True)
    assert admin.post(f"{ADD}?user={carol.pk}", fields(user=str(root.pk), confirmation="carol")).status_code == 200
    assert not Block.objects.exists()


@pytest.mark.django_db
def test_no_forged_field_becomes_part_of_a_block(admin: Client, root: User, user: User) -> None:
    forged = {
        "created_by": str(user.pk),
        "automatic": "on",
        "lifted_at": "2000-01-01 00:00",
        "id": "4711",
        "pk": "4711",
    }
    admin.post(ADD, fields(user=str(user.pk), **forged))
    block = Block.objects.get()
    assert (block.created_by, block.automatic, block.lifted_at) == (root, False, None)
    assert block.pk != 4711
    assert block.is_active


@pytest.mark.django_db
def test_lifting_what_is_not_there_is_said_and_nothing_else(admin: Client) -> None:
    for key in (4711, 2**63, 10**30):
        assert "There is no active block to lift" in page(admin, f"{BLOCKS}{key}/lift/")
        html = unescape(admin.post(f"{BLOCKS}{key}/lift/", follow=True).content.decode())
        assert "There was no active block to lift." in html


# Races ---------------------------------------------------------------------------------------------------------------


def at_once(clients: list[Client], url: str, data: dict[str, str]) -> list[int]:
    """Post the same from several browsers at the same moment; the answers' statuses."""
    barrier = threading.Barrier(len(clients))

    def post(client: Client) -> int:
        try:
            barrier.wait(10)
            return int(client.post(url, data).status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(post, clients))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("duration", ["3600", ""])
def test_clicks_at_the_same_moment_make_one_block(root: User, user: User, duration: str) -> None:
    clients = [client_of(root) for _ in range(4)]
    assert at_once(clients, ADD, fields(user=str(user.pk), duration=duration)) == [302] * 4
    assert Block.objects.count() == 1
    assert AuditEvent.objects.filter(kind="block.created").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_operators_who_lift_the_same_block_are_recorded_once(root: User, make_user: MakeUser) -> None:
    block = blocklist.block(network="203.0.113.7")
    other = make_user("other", is_staff=True, is_superuser=True)
    assert at_once([client_of(root), client_of(other)], f"{BLOCKS}{block.pk}/lift/", {}) == [302] * 2
    assert AuditEvent.objects.filter(kind="block.lifted").count() == 1


@pytest.mark.django_db
def test_a_form_with_errors_leaves_no_trace(admin: Client, root: User) -> None:
    admin.post(ADD, fields(network="203.0.113.7"))
    before = PolicyVersion.current("default")
    admin.post(ADD, fields(user=str(root.pk)))
    admin.post(ADD, fields(network="nonsense"))
    assert PolicyVersion.current("default") == before
