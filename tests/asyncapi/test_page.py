"""The page: who may see it, what stands on it, and that nothing in it can run."""

import json
from enum import Enum
from html.parser import HTMLParser
from typing import Annotated, Any

import msgspec
import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.utils import translation
from msgspec import Meta
from pytest_django import Settings

from channels_secure.asyncapi import Route, document
from channels_secure.asyncapi.page import Page
from channels_secure.asyncapi.views import AsyncAPIView
from channels_secure.consumers import handles
from tests.asyncapi.test_document import NOT_HTML, consumer
from tests.asyncapi.wire import DropIn, EverythingConsumer
from tests.conftest import MakeUser

PATH = "/ws-auth/asyncapi/"
# What has no end tag (HTML, section 13.1.2).
VOID = {"br", "link", "meta"}


class Reader(HTMLParser):
    """Reads a page: its elements, its words, and whether everything is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def every(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def shown(*consumers: Any) -> Reader:
    return Reader(render_to_string("channels_secure/asyncapi.html", {"page": Page(document(consumers))}))


def ask(view: Any, user: Any = None) -> HttpResponse:
    request = RequestFactory().get("/wire/")
    if user is not None:
        request.user = user
    response: HttpResponse = view(request)
    return response


@pytest.fixture(autouse=True)
def _application(settings: Settings) -> None:
    settings.ASGI_APPLICATION = "tests.asyncapi.asgi.application"


@pytest.mark.django_db
def test_the_staff_sees_it(client: Client, make_user: MakeUser) -> None:
    client.force_login(make_user("sam", is_staff=True))
    response = client.get(PATH)
    assert response.status_code == 200
    assert "max-age=0" in response["Cache-Control"]
    page = Reader(response.content.decode())
    for words in ("EverythingConsumer", "/ws/{room}/", "chat.said", "5/10s", "chat.add_note", "rate_limited", "4429"):
        assert words in page.words


@pytest.mark.django_db
def test_the_document_itself_is_behind_it(client: Client, make_user: MakeUser) -> None:
    client.force_login(make_user("sam", is_staff=True))
    response = client.get(PATH, {"format": "json"})
    assert response["Content-Type"] == "application/json"
    assert json.loads(response.content)["channels"]["EverythingConsumer"]["address"] == "/ws/{room}/"


@pytest.mark.django_db
def test_nobody_else_does(client: Client, user: User, make_user: MakeUser) -> None:
    response = client.get(PATH, {"format": "json"})
    assert response.status_code == 302
    assert response["Location"] == "/accounts/login/?next=/ws-auth/asyncapi/%3Fformat%3Djson"
    client.force_login(user)
    assert client.get(PATH).status_code == 403
    client.force_login(make_user("left", is_staff=True, is_active=False))
    assert client.get(PATH).status_code in (302, 403)


def test_a_project_without_users_shows_it_to_nobody() -> None:
    with pytest.raises(PermissionDenied):
        ask(AsyncAPIView.as_view())
    with pytest.raises(PermissionDenied):
        ask(AsyncAPIView.as_view(), User(username="left", is_staff=True, is_active=False))
    assert ask(AsyncAPIView.as_view(public=True)).status_code == 200


def test_a_project_may_open_it_to_everybody_and_choose_what_is_shown() -> None:
    view = AsyncAPIView.as_view(public=True, source=[DropIn], title="Chat", version="7")
    page = Reader(ask(view, AnonymousUser()).content.decode())
    assert "DropIn" in page.words
    assert "Version 7" in page.words
    assert "EverythingConsumer" not in page.words


def test_a_subclass_may_let_others_see_it() -> None:
    class ForUsers(AsyncAPIView):
        def may_see(self, request: Any) -> bool:
            return bool(request.user.username == "alice")

    assert ask(ForUsers.as_view(), User(username="alice")).status_code == 200
    with pytest.raises(PermissionDenied):
        ask(ForUsers.as_view(), User(username="bob"))


@pytest.mark.django_db
def test_login_required_middleware_leaves_the_decision_to_the_view(client: Client, settings: Settings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert AsyncAPIView.as_view(public=True).login_required is False  # type: ignore[attr-defined]
    assert client.get(PATH).status_code == 302


def test_only_reading_is_possible() -> None:
    response = AsyncAPIView.as_view(public=True)(RequestFactory().post("/wire/"))
    assert response.status_code == 405


def test_what_is_wrong_is_told_to_those_who_can_mend_it(settings: Settings) -> None:
    settings.ASGI_APPLICATION = "tests.asyncapi.broken.application"
    view = AsyncAPIView.as_view(public=True)
    told = ask(view, User(username="sam", is_staff=True))
    assert told.status_code == 500
    assert "ZeroDivisionError" in Reader(told.content.decode()).words
    untold = Reader(ask(view, AnonymousUser()).content.decode()).words
    assert "No description can be made." in untold
    assert "ZeroDivisionError" not in untold


def test_nothing_on_the_page_can_run_or_style() -> None:
    page = shown(EverythingConsumer, DropIn)
    assert page.every("script") == []
    assert page.every("style") == []
    for _, attributes in page.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    (sheet,) = page.every("link")
    assert sheet == {"rel": "stylesheet", "href": "/static/channels_secure/asyncapi.css"}


class Choice(Enum):
    ONE = NOT_HTML


def hostile() -> dict[str, Any]:
    """A document of a project that has written markup wherever it can write something."""
    words = Meta(title=NOT_HTML, description=NOT_HTML, pattern=NOT_HTML)
    fields: list[Any] = [("<script>", Annotated[str, words], NOT_HTML), ("choice", Choice, Choice.ONE)]
    fields = [
        (f"field{n}", kind, msgspec.field(name=name, default=each)) for n, (name, kind, each) in enumerate(fields)
    ]
    odd = msgspec.defstruct("Odd", fields, namespace={"__doc__": NOT_HTML})
    holder = msgspec.defstruct("Holder", [("odd", odd), ("one", odd)])
    chat = consumer(NOT_HTML, holder, kind=NOT_HTML, __doc__=NOT_HTML, sends=(holder,))
    handles(NOT_HTML, permission=NOT_HTML)(chat.take)
    route = Route(consumer=chat, address=NOT_HTML, parameters={NOT_HTML: NOT_HTML})
    described = document([route], title=NOT_HTML, version=NOT_HTML)
    described["components"]["securitySchemes"] = {NOT_HTML: {"type": NOT_HTML, "description": NOT_HTML}}
    return described


def test_docstrings_names_and_types_with_markup_are_only_words() -> None:
    page = Reader(render_to_string("channels_secure/asyncapi.html", {"page": Page(hostile())}))
    assert page.words.count(NOT_HTML) == 19
    assert "<script>" in page.words.replace(NOT_HTML, "")
    assert page.every("script") == []
    assert {each["href"] for each in page.every("a") if not str(each["href"]).startswith("#")} == {"?format=json"}


def test_every_link_leads_to_a_place_of_its_own_and_every_label_to_a_heading() -> None:
    page = shown(EverythingConsumer, DropIn)
    places = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(places) == len(set(places))
    links = [str(each["href"]) for each in page.every("a")]
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= set(places)
    labels = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(labels) <= set(places)
    assert len(page.every("h1")) == 1


def test_a_member_is_shown_with_type_and_limits() -> None:
    shapes = {shape.name: shape for shape in Page(document([EverythingConsumer])).channels[0].received}
    members = {member.name: member for member in shapes["everything"].members}
    text = members["text"]
    assert (text.type, text.required, text.limits) == ("string", True, "minLength 1, maxLength 5, pattern ^[a-z]*$")
    assert members["colour"].type == "Colour"
    assert not members["colour"].required
    assert [member.name for member in shapes["counts"].members] == ["type", "id", "…"]
    assert shapes["counts"].members[2].type == "number"
    # Python's own words about `Any` are none about this message.
    assert shapes["anything"].description == ""
    assert shapes["tree"].description == "Goes on for ever."


def test_the_page_of_a_project_without_consumers_says_so() -> None:
    assert "There are no consumers to describe." in shown().words


def test_the_page_says_in_which_language_it_is() -> None:
    with translation.override("de"):
        (html,) = shown(DropIn).every("html")
    assert html["lang"] == "de"
