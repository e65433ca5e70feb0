"""The list of blocks and the page of one: what they have done since, and what was there before."""

import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from channels_secure import audit, blocklist
from channels_secure.admin import hits as module
from channels_secure.admin import lifting
from channels_secure.models import AuditEvent, Block
from tests.admin.conftest import OPERATOR, event, page
from tests.conftest import MakeUser
from tests.sockets import Echo, connect

BLOCKS = "/admin/channels_secure/block/"


def refusal(block: Block | None, **facts: Any) -> AuditEvent:
    detail = {"detail": "is blocked"} if block is None else {"detail": "is blocked", "block": block.pk}
    return event(**{"reason": "blocked", "detail": detail, **facts})


def counts(client: Client) -> list[str]:
    """The hits that the list shows, the newest block first."""
    return re.findall(r'<span class="cs-hits">([^<]*)</span>', page(client, BLOCKS))


def told(client: Client, block: Block) -> str:
    return unescape(page(client, f"{BLOCKS}{block.pk}/change/"))


# What refuses says which block it was -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("subject", ["user", "address"])
async def test_a_refused_handshake_names_the_block(user: User, subject: str) -> None:
    chosen: dict[str, Any] = {"user": user} if subject == "user" else {"network": "203.0.113.0/24"}
    block = await blocklist.ablock(**chosen)
    for _ in range(2):
        # The first asks the database, the second what the first has read.
        socket = connect(Echo, user=user, client="203.0.113.7")
        assert not (await socket.shake_hands()).accepted
    await audit.flush()
    written = [row async for row in AuditEvent.objects.filter(kind="handshake.denied")]
    assert [row.detail["block"] for row in written] == [block.pk] * 2


@pytest.mark.django_db(transaction=True)
async def test_a_closed_socket_names_the_block(user: User) -> None:
    socket = connect(Echo, user=user)
    assert (await socket.shake_hands()).accepted
    block = await blocklist.ablock(user=user)
    await socket.closing()
    await socket.future
    await audit.flush()
    closed = await AuditEvent.objects.aget(kind="connection.closed")
    assert (closed.reason, closed.detail["block"]) == ("blocked", block.pk)


@pytest.mark.django_db
def test_a_refused_ticket_names_the_block_that_lasts_longest(client: Client, user: User) -> None:
    blocklist.block(user=user, duration=60)
    longest = blocklist.block(user=user, duration=3600)
    headers = {"authorization": f"Bearer {AccessToken.for_user(user)}"}
    assert client.post(reverse("channels_secure:ticket"), headers=headers).status_code == 403
    audit.flush_now()
    assert AuditEvent.objects.get(kind="handshake.denied").detail["block"] == longest.pk


# Hits ----------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_hits_are_those_of_the_block_and_no_other(admin: Client, user: User) -> None:
    one, two = blocklist.block(user=user), blocklist.block(network="203.0.113.0/24")
    third = blocklist.block(network="203.0.113.7")
    refusal(one, count=17)
    refusal(one)
    refusal(two, count=2000)
    event(reason="origin_not_allowed", detail={"block": third.pk})
    event(kind="connection.closed", reason="blocked", detail={"block": third.pk})
    assert counts(admin) == ["0", "2,000", "18"]


@pytest.mark.django_db
def test_what_cannot_be_told_makes_the_number_a_lower_bound(admin: Client, user: User) -> None:
    block = blocklist.block(user=user)
    refusal(block, count=5)
    refusal(None, count=700)
    assert counts(admin) == ["5+"]


@pytest.mark.django_db
def test_what_was_refused_before_the_block_says_nothing_about_it(admin: Client, user: User) -> None:
    refusal(None, created_at=timezone.now() - timedelta(hours=1))
    blocklist.block(user=user)
    assert counts(admin) == ["0"]


@pytest.mark.django_db
def test_so_many_are_read_and_no_more(admin: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    block = blocklist.block(user=user)
    for _ in range(3):
        refusal(block)
    assert counts(admin) == ["3"]
    refusal(block)
    assert counts(admin) == ["3+"]


@pytest.mark.django_db
def test_a_long_list_costs_as_many_queries_as_a_short_one(
    admin: Client, user: User, make_user: MakeUser, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    def fill(count: int) -> None:
        for number in range(count):
            operator = make_user(f"operator-{Block.objects.count()}")
            block = Block.objects.create(network=f"198.51.{Block.objects.count()}.{number}", created_by=operator)
            refusal(block, ip="198.51.100.7")
            Block.objects.create(user=operator, created_by=operator)

    fill(2)
    for _ in range(2):
        with django_assert_max_num_queries(6):
            assert "198.51." in page(admin, BLOCKS)
        fill(15)


@pytest.mark.django_db
def test_the_page_of_a_block_costs_as_much_with_a_long_history(
    admin: Client, user: User, make_user: MakeUser, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    block = blocklist.block(user=user)
    for count in (3, 27):
        for number in range(count):
            operator = make_user(f"operator-{count}-{number}")
            Block.objects.create(user=user, created_by=operator, lifted_by=operator, lifted_at=timezone.now())
            refusal(block, ip=f"198.51.100.{number}", username="alice")
        with django_assert_max_num_queries(9):
            told(admin, block)


# The story -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_page_tells_who_did_it_and_why_and_from_where(admin: Client, root: User, user: User) -> None:
    with audit.acting_from(OPERATOR):
        block = blocklist.block(user=user, duration=3600, reason="spam & eggs", by=root)
    html = told(admin, block)
    assert "alice was blocked" in html
    assert f"by root, who was at {OPERATOR}." in html
    assert "The reason given: spam & eggs" in html
    assert "It ends at" in html
    assert "It has refused nobody yet." in html
    refusal(block, username="alice", ip="203.0.113.7", count=40)
    refusal(block, username="alice", ip="203.0.113.8")
    html = told(admin, block)
    assert "Handshakes it has refused: 41, the last" in html
    assert html.index(">203.0.113.7</a>") < html.index(">203.0.113.8</a>")
    admin.post(f"{BLOCKS}{block.pk}/lift/", {"reason": "sorry"})
    assert f"by root, who was at {OPERATOR}." in told(admin, block).partition("It was lifted")[2]


@pytest.mark.django_db
def test_other_moments_are_told_as_they_are(admin: Client) -> None:
    now = timezone.now()
    over = Block.objects.create(network="203.0.113.1", automatic=True, expires_at=now - timedelta(hours=1))
    lasting = Block.objects.create(network="203.0.113.2")
    html = told(admin, over)
    assert "by the package itself." in html
    assert "It ended at" in html
    html = told(admin, lasting)
    assert "by somebody unknown." in html
    assert "It lasts until somebody lifts it." in html


@pytest.mark.django_db
def test_the_actors_address_is_that_of_this_block(admin: Client, root: User, user: User) -> None:
    with audit.acting_from("198.51.100.99"):
        blocklist.block(network="203.0.113.7", by=root)
    block = blocklist.block(user=user, by=root)
    assert "198.51.100.99" not in told(admin, block)


@pytest.mark.django_db
def test_the_history_is_that_of_the_subject(admin: Client, root: User, user: User, make_user: MakeUser) -> None:
    earlier = blocklist.block(user=user, duration=60, reason="first", by=root)
    blocklist.lift([earlier.pk], by=root)
    block = blocklist.block(user=user, reason="second", by=root)
    blocklist.block(user=make_user("bob"), reason="other")
    html = told(admin, block)
    assert f'<a href="{BLOCKS}{earlier.pk}/change/">alice</a>' in html
    assert "first" in html
    assert "other" not in html.partition("cs-history")[2].partition("</table>")[0]
    assert "second" in told(admin, earlier)


@pytest.mark.django_db
def test_the_history_of_a_network_has_those_around_it(admin: Client) -> None:
    around = blocklist.block(network="203.0.0.0/16", duration=60)
    block = blocklist.block(network="203.0.113.0/24")
    blocklist.block(network="203.0.113.7")
    html = told(admin, block).partition("cs-history")[2]
    assert f"{BLOCKS}{around.pk}/change/" in html
    assert "203.0.113.7" not in html


@pytest.mark.django_db
def test_a_network_that_sql_has_made_has_a_page_too(admin: Client) -> None:
    block = blocklist.block(network="203.0.113.7")
    Block.objects.filter(pk=block.pk).update(network="nonsense")
    assert "nonsense was blocked" in told(admin, block)


@pytest.mark.django_db
@pytest.mark.parametrize("subject", ["user", "203.0.113.7/32", "2001:db8::/64"])
def test_the_page_leads_to_events_connections_and_a_longer_block(admin: Client, user: User, subject: str) -> None:
    block = blocklist.block(user=user) if subject == "user" else blocklist.block(network=subject)
    html = told(admin, block)
    asked = {
        "user": (f"user={user.pk}", f"user={user.pk}", f"user={user.pk}"),
        "203.0.113.7/32": ("ip=203.0.113.7", "q=203.0.113.7", "network=203.0.113.7%2F32"),
        "2001:db8::/64": ("ip=2001%3Adb8%3A%3A%2F64", "q=2001%3Adb8%3A%3A%2F64", "network=2001%3Adb8%3A%3A%2F64"),
    }[subject]
    assert f'"/admin/channels_secure/auditevent/?{asked[0]}"' in html
    assert f'"/admin/channels_secure/liveconnection/?{asked[1]}"' in html
    assert f'"{BLOCKS}add/?{asked[2]}&reason="' in html


@pytest.mark.django_db
def test_links_are_only_to_what_may_be_seen(operator_with: Callable[..., Client], user: User) -> None:
    html = told(operator_with("view_block"), blocklist.block(user=user))
    for path in ("auditevent", "liveconnection", "block/add"):
        assert f"/admin/channels_secure/{path}/" not in html


@pytest.mark.django_db
def test_extending_keeps_the_history(admin: Client, root: User, user: User) -> None:
    first = blocklist.block(user=user, duration=3600, reason="spam", by=root)
    html = told(admin, first)
    link = html.partition(f'"{BLOCKS}add/?')[2].partition('"')[0]
    form = page(admin, f"{BLOCKS}add/?{link}")
    assert 'value="spam"' in form
    assert "A longer block is added to these" in form
    admin.post(f"{BLOCKS}add/?{link}", {"user": user.pk, "network": "", "duration": "604800", "reason": "spam"})
    assert Block.objects.active().filter(user=user).count() == 2
    second = Block.objects.latest("pk")
    assert f"{BLOCKS}{first.pk}/change/" in told(admin, second)


# Lifting -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_lifting_one_of_several_says_that_the_rest_stand(admin: Client, user: User) -> None:
    first = blocklist.block(user=user, duration=60)
    second = blocklist.block(user=user)
    html = unescape(admin.post(f"{BLOCKS}{first.pk}/lift/", follow=True).content.decode())
    assert "Still blocked, by other blocks: alice." in html
    html = unescape(admin.post(f"{BLOCKS}{second.pk}/lift/", follow=True).content.decode())
    assert "Still blocked" not in html


@pytest.mark.django_db
def test_the_page_that_asks_names_whom_it_lifts(admin: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels_secure.admin.lifting.MOST_NAMED", 2)
    blocks = [blocklist.block(user=user, reason="spam"), *(blocklist.block(network=f"203.0.113.{n}") for n in (1, 2))]
    html = page(admin, f"{BLOCKS}{blocks[0].pk}/lift/")
    assert "Lift the block of alice?" in html
    assert "alice: spam" in html
    data = {"action": "lift_selected", "_selected_action": [block.pk for block in blocks]}
    html = admin.post(BLOCKS, data).content.decode()
    assert "Lift 3 blocks?" in html
    assert "… and 1 more" in html
    assert Block.objects.active().count() == 3
    blocklist.lift([block.pk for block in blocks])
    assert "There is no active block to lift" in admin.post(BLOCKS, data).content.decode()


@pytest.mark.django_db
def test_the_answer_for_many_lifts_them_with_one_reason(admin: Client, root: User) -> None:
    blocks = [blocklist.block(network=f"203.0.113.{number}") for number in range(3)]
    data = {"action": "lift_selected", "_selected_action": [block.pk for block in blocks[:2]]}
    html = admin.post(BLOCKS, data).content.decode()
    assert html.count('name="_selected_action"') == 2
    response = admin.post(BLOCKS, {**data, "confirmed": "lift_selected", "reason": "mistake"}, follow=True)
    assert "2 blocks were lifted." in response.content.decode()
    assert list(Block.objects.active()) == blocks[2:]
    lifted = AuditEvent.objects.filter(kind="block.lifted")
    assert {(row.actor, row.actor_from, row.reason) for row in lifted} == {("root", OPERATOR, "mistake")}


@pytest.mark.django_db
def test_as_many_as_may_be_lifted_at_once_are_lifted_by_the_page_that_asks(admin: Client) -> None:
    Block.objects.bulk_create(Block(network=f"10.0.{n // 256}.{n % 256}/32") for n in range(lifting.MOST))
    chosen = {"action": "lift_selected", "select_across": "1", "_selected_action": [Block.objects.earliest("pk").pk]}
    html = admin.post(BLOCKS, chosen).content.decode()
    fields: dict[str, list[str]] = {"reason": ["mistake"], "csrfmiddlewaretoken": ["x"]}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', html):
        fields.setdefault(name, []).append(value)
    assert admin.post(BLOCKS, fields).status_code == 302
    assert not Block.objects.active().exists()
    Block.objects.bulk_create(Block(network=f"10.1.{n // 256}.{n % 256}/32") for n in range(lifting.MOST + 1))
    html = admin.post(BLOCKS, chosen, follow=True).content.decode()
    assert f"At most {lifting.MOST} at once." in html


# What SQL, or an address, may hold -----------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("spoilt", [[1], {"a": 1}, "x", 1.5, None])
def test_a_refusal_that_somebody_has_spoilt_counts_for_nobody(admin: Client, spoilt: Any) -> None:
    block = blocklist.block(network="203.0.113.7")
    refusal(block)
    event(reason="blocked", detail={"block": spoilt})
    assert counts(admin) == ["1" if spoilt is not None else "1+"]
    assert "Handshakes it has refused: 1" in told(admin, block)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["user", "network", "automatic", "state", "q"])
@pytest.mark.parametrize("text", ["\x00", "9" * 19, "-" + "9" * 40, "x" * 10_000, "(", "\u0663"])
def test_no_parameter_breaks_the_list(admin: Client, name: str, text: str) -> None:
    blocklist.block(network="203.0.113.7")
    assert admin.get(BLOCKS, {name: text}).status_code in {200, 302}


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["reason__regex", "user__password__startswith", "created_by__email", "id__in"])
def test_what_has_no_index_or_is_not_theirs_to_know_is_not_looked_for(admin: Client, name: str) -> None:
    assert admin.get(BLOCKS, {name: "("}).status_code == 400


@pytest.mark.django_db
def test_the_list_of_a_user_or_a_network_is_an_address(admin: Client, user: User) -> None:
    block = blocklist.block(user=user)
    blocklist.block(network="203.0.113.7")
    for asked in ({"user": str(user.pk)}, {"user__id__exact": str(user.pk), "automatic__exact": "0"}):
        html = page(admin, f"{BLOCKS}?{urlencode(asked)}")
        assert re.findall(r"/block/(\d+)/change/", html) == [str(block.pk)]
    assert "alice" not in page(admin, f"{BLOCKS}?{urlencode({'network': '203.0.113.7/32'})}")
