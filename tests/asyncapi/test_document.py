"""The document: channels, operations, limits, refusals and names."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from django.test import RequestFactory
from django.urls import path
from jsonschema import Draft7Validator
from msgspec import Meta
from pytest_django import Settings

from channels_secure.asyncapi import Route, Undescribable, document, routes_of
from channels_secure.asyncapi.names import Use, allot
from channels_secure.asyncapi.page import Page
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.consumers.handlers import BadDeclaration
from channels_secure.groups import encode
from channels_secure.middleware import SecureMiddlewareStack
from channels_secure.policy.decisions import RULES
from tests.asyncapi.conftest import errors, payload_validator
from tests.asyncapi.wire import DropIn, EverythingConsumer, Plain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "describe-the-wire.md"
NOT_HTML = "<script>alert(1)</script> */ {{ 7 }} [x](javascript:0)"


def routed(*routes: Any) -> SecureMiddlewareStack:
    return SecureMiddlewareStack(URLRouter(list(routes)))


def follow(described: dict[str, Any], reference: dict[str, str]) -> Any:
    """What a `$ref` leads to; a KeyError where it leads nowhere."""
    found = described
    for step in reference["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def references(node: Any) -> list[dict[str, str]]:
    if isinstance(node, list):
        return [found for each in node for found in references(each)]
    if not isinstance(node, dict):
        return []
    own = [node] if isinstance(node.get("$ref"), str) else []
    return own + [found for each in node.values() for found in references(each)]


def messages(described: dict[str, Any], channel: str, action: str) -> dict[str, Any]:
    """The messages of one direction, by their names on the wire."""
    found = [
        follow(described, follow(described, reference))
        for operation in described["operations"].values()
        if operation["action"] == action and operation["channel"] == {"$ref": f"#/channels/{channel}"}
        for reference in operation["messages"]
    ]
    return {message["name"]: message for message in found}


def test_a_channel_is_a_consumer_with_address_parameters_and_limits() -> None:
    described = document(routed(path("ws/<slug:room>/", EverythingConsumer.as_asgi())))
    channel = described["channels"]["EverythingConsumer"]
    assert channel["address"] == "/ws/{room}/"
    assert channel["parameters"] == {"room": {"description": "Matches `[-a-zA-Z0-9_]+`."}}
    assert channel["summary"] == "Takes one of each."
    assert channel["description"] == "Takes one of each.\n\nAnd has more to say about it:\n- a\n- list"
    assert channel["x-channels-secure"] == {
        "anonymous": False,
        "max_message_size": 65536,
        "max_message_depth": 32,
        "message_rates": {"connection": "20/s", "user": "600/m"},
        "error_budget": "20/m",
        "idle_timeout": 1800,
        "heartbeat_interval": 20,
        "max_connection_age": None,
    }


def test_an_operation_says_what_its_handler_asks() -> None:
    operations = document([EverythingConsumer])["operations"]
    asked = {
        key.removeprefix("EverythingConsumer.receive."): operation["x-channels-secure"]
        for key, operation in operations.items()
        if "x-channels-secure" in operation
    }
    assert asked == {
        "counts": {"permission": "may_shout"},
        "everything": {"rate": "5/10s", "cost": 2},
        "note": {"permission": "chat.add_note"},
    }
    assert operations["EverythingConsumer.receive.everything"]["summary"] == "Take all of it."


def test_a_message_is_answered_by_an_error_that_names_it() -> None:
    described = document([EverythingConsumer])
    reply = described["operations"]["EverythingConsumer.receive.everything"]["reply"]
    (error,) = (follow(described, follow(described, each)) for each in reply["messages"])
    assert error["name"] == "error"
    assert error["correlationId"] == {"location": "$message.payload#/ref"}
    asked = messages(described, "EverythingConsumer", "receive")["everything"]
    assert asked["correlationId"] == {"location": "$message.payload#/id"}


def test_what_a_server_sends_is_what_the_consumer_declares_and_the_packages_frames() -> None:
    described = document([EverythingConsumer])
    sent = messages(described, "EverythingConsumer", "send")
    frames = {"error", "hello", "ping", "pong", "token_expiring", "token_refreshed"}
    assert set(sent) == {"chat.said", "chat.left", "chat.joined"} | frames
    assert sent["chat.said"]["summary"] == "Somebody has said something."
    said = payload_validator(described, "chat.said")
    assert said.is_valid({"type": "chat.said", "user": "a", "text": "b", "at": "2026-11-21T10:00:00Z"})
    assert not said.is_valid({"type": "chat.left", "user": "a", "text": "b", "at": "2026-11-21T10:00:00Z"})


@pytest.mark.parametrize(
    ("attributes", "received", "sent"),
    [
        ({}, {"value"}, {"error"}),
        ({"control_frames": True}, {"value", "ping", "pong", "refresh_token"},
         {"error", "pong", "token_expiring", "token_refreshed"}),
        ({"heartbeat_interval": 5}, {"value", "ping", "pong", "refresh_token"},
         {"error", "ping", "pong", "token_refreshed"}),
        ({"send_hello": True}, {"value"}, {"error", "hello"}),
    ],
)  # fmt: skip
def test_a_drop_in_consumer_takes_any_value(attributes: dict[str, Any], received: set[str], sent: set[str]) -> None:
    described = document([type("Dropped", (DropIn,), attributes)])
    assert set(messages(described, "Dropped", "receive")) == received
    assert set(messages(described, "Dropped", "send")) == sent


def test_a_consumer_that_is_not_ours_is_described_by_its_limits() -> None:
    described = document(routed(path("x/", Plain.as_asgi())))
    assert described["channels"]["Plain"]["x-channels-secure"]["max_message_size"] == 65536
    assert set(messages(described, "Plain", "receive")) == {"anything"}
    assert set(messages(described, "Plain", "send")) == {"error"}


def test_what_stands_outside_the_stack_is_left_out_unless_it_is_asked_for() -> None:
    app = URLRouter([path("x/", DropIn.as_asgi())])
    assert document(app)["channels"] == {}
    assert document(routes_of(app))["channels"]["DropIn"]["address"] == "/x/"


class Reversed:
    """A codec."""

    def encode(self, text: str) -> str:
        return text[::-1]

    decode = encode


def test_a_codec_is_named(official: Draft7Validator) -> None:
    described = document(type("Secret", (DropIn,), {"codec": Reversed()}))
    assert described["channels"]["Secret"]["x-channels-secure"]["codec"] == "Reversed"
    assert "codec" not in document(DropIn)["channels"]["DropIn"]["x-channels-secure"]
    assert ("Frames are encoded by", "Reversed") in Page(described).channels[0].limits


def test_a_consumer_without_a_route_has_no_address() -> None:
    assert document([DropIn])["channels"]["DropIn"]["address"] is None
    assert document(DropIn) == document([DropIn])


def test_the_refusals_are_the_one_table(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"CLOSE_CODES": {"blocked": 4999}}
    refusals = document([])["x-channels-secure"]["refusals"]
    assert refusals.pop("blocked")["close"] == 4999
    assert refusals == {
        reason.value: {
            "close": rule.close,
            "http": rule.status,
            "reconnect": rule.reconnect,
            "answers_messages": rule.answerable,
            "message": rule.message,
        }
        for reason, rule in RULES.items()
        if reason != "blocked"
    }


def test_limits_follow_the_settings(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"MESSAGE_RATES": {"connection": None}, "MAX_MESSAGE_SIZE": 99, "IDLE_TIMEOUT": None}
    limits = document([DropIn])["channels"]["DropIn"]["x-channels-secure"]
    assert limits["message_rates"] == {"user": "600/m"}
    assert (limits["max_message_size"], limits["idle_timeout"]) == (99, None)


# Names ---------------------------------------------------------------------------------------------------------------


def consumer(name: str, schema: Any, *, kind: str = "say", **attributes: Any) -> type[SecureJsonConsumer]:
    async def take(self: Any, message: Any) -> None: ...

    take.__annotations__ = {"message": schema}
    return type(name, (SecureJsonConsumer,), {"take": handles(kind)(take), "__module__": "shop", **attributes})


def item(*fields: str) -> type[msgspec.Struct]:
    return msgspec.defstruct("Item", [(name, int) for name in fields], module="shop")


def basket(*fields: str) -> type[msgspec.Struct]:
    return msgspec.defstruct("Basket", [("item", item(*fields))], module="shop")


@pytest.mark.parametrize("turned", [False, True])
def test_two_structs_of_one_name_are_called_by_their_consumers(official: Draft7Validator, turned: bool) -> None:
    pair = [consumer("Buy", basket("price")), consumer("Sell", basket("gain"))]
    described = document(reversed(pair) if turned else pair)
    components = described["components"]
    assert set(components["schemas"]) >= {"Buy.Item", "Sell.Item"}
    assert "Item" not in components["schemas"]
    assert components["schemas"]["Sell.Item"]["required"] == ["gain"]
    assert payload_validator(described, "Sell.receives.say").is_valid({"type": "say", "item": {"gain": 1}})
    assert not payload_validator(described, "Sell.receives.say").is_valid({"type": "say", "item": {"price": 1}})
    assert errors(official, described) == []


def test_equal_messages_of_two_consumers_are_one() -> None:
    components = document([consumer("Buy", basket("price")), consumer("Sell", basket("price"))])["components"]
    assert "say" in components["messages"]
    assert "Item" in components["schemas"]


def test_two_consumers_of_one_name_are_called_by_their_modules() -> None:
    one, other = consumer("Chat", item("a")), consumer("Chat", item("b"))
    other.__module__ = "forum"
    assert set(document([one, other])["channels"]) == {"shop.Chat", "forum.Chat"}


def test_one_consumer_at_two_addresses_is_called_by_them(official: Draft7Validator) -> None:
    described = document(routed(path("a/", DropIn.as_asgi()), path("b/<int:n>/", DropIn.as_asgi())))
    assert set(described["channels"]) == {"DropIn.a", "DropIn.b.n"}
    assert errors(official, described) == []


@pytest.mark.parametrize("kind", ["größer/als ~1", "a b", "日本", "..", "x" * 100, NOT_HTML])
def test_a_type_may_be_called_anything(official: Draft7Validator, kind: str) -> None:
    described = document([consumer("Chat", item("a"), kind=kind)])
    assert errors(official, described) == []
    assert kind in messages(described, "Chat", "receive")


def test_a_longer_name_takes_no_plain_one_away() -> None:
    uses = [
        Use(name="Item", owner="Buy", content=1),
        Use(name="Item", owner="Sell", content=2),
        Use(name="Buy.Item", owner="Other", content=3),
    ]
    assert list(allot(uses).values()) == ["Buy.Item_2", "Sell.Item", "Buy.Item"]


def test_one_type_in_both_directions_is_two_messages() -> None:
    class Say(msgspec.Struct, tag="say", tag_field="type"):
        text: str

    described = document([consumer("Echo", Say, sends=(Say,))])
    assert {"Echo.receives.say", "Echo.sends.say"} <= set(described["components"]["messages"])


def test_a_message_that_is_called_like_a_frame_of_ours_does_not_take_its_place() -> None:
    class Hello(msgspec.Struct, tag="Hello", tag_field="type"):
        text: str

    described = document([consumer("Polite", item("a"), sends=(Hello,), send_hello=True)])
    assert {"Hello", "hello"} <= set(messages(described, "Polite", "send"))
    assert {"Polite.sends.Hello", "SecureJsonConsumer.sends.Hello"} <= set(described["components"]["messages"])


# Odd projects --------------------------------------------------------------------------------------------------------


def test_a_project_without_consumers_has_a_valid_document(official: Draft7Validator) -> None:
    described = document(URLRouter([]))
    assert described["channels"] == {}
    assert described["operations"] == {}
    assert errors(official, described) == []


def test_everything_that_is_referred_to_is_there(official: Draft7Validator) -> None:
    described = document([EverythingConsumer, DropIn, Plain])
    found = references(described)
    assert len(found) > 100
    for reference in found:
        assert follow(described, reference) is not None
    assert errors(official, described) == []


def test_a_docstring_with_markup_stays_what_it_is(official: Draft7Validator) -> None:
    described = document([consumer("Chat", item("a"), __doc__=NOT_HTML)])
    assert described["channels"]["Chat"]["summary"] == NOT_HTML
    assert errors(official, described) == []


def test_the_signature_of_a_dataclass_is_no_description() -> None:
    sent = messages(document([EverythingConsumer]), "EverythingConsumer", "send")
    assert "summary" not in sent["chat.joined"]


def test_a_handler_that_runs_on_a_thread_speaks_its_own_words() -> None:
    class Threaded(SecureJsonConsumer):
        @handles("work")
        @database_sync_to_async
        def work(self, message: Annotated[dict[str, Any], "as it is"]) -> None:
            """Do the work."""

    assert messages(document(Threaded), "Threaded", "receive")["work"]["summary"] == "Do the work."


def test_a_class_without_a_docstring_does_not_speak_its_bases_words() -> None:
    assert "summary" not in document([DropIn])["channels"]["DropIn"]


def test_a_schema_that_was_written_by_hand_may_be_anything(official: Draft7Validator) -> None:
    strange = Meta(extra_json_schema={"examples": [{1, 2}], "x-odd": float("nan"), "$ref": "https://example.com/x"})
    holder = msgspec.defstruct("Holder", [("odd", Annotated[str, strange])])
    described = document([consumer("Chat", holder)])
    assert errors(official, json.loads(json.dumps(described))) == []


def test_a_consumer_that_cannot_work_is_not_described() -> None:
    with pytest.raises(BadDeclaration, match=r"Chat\.take"):
        document([consumer("Chat", item("a"), kind="ping")])


@pytest.mark.parametrize(
    ("sends", "words"),
    [
        (item("a"), r"^Chat\.sends is a tuple of types, such as `sends = \(Said,\)`$"),
        ((print,), r"^Chat\.sends: print: "),
        ((msgspec.defstruct("Lost", [("a", "Nowhere")]),), r"^Chat\.sends: Lost: name 'Nowhere' is not defined$"),
    ],
)
def test_what_cannot_be_sent_is_said_by_the_name_of_its_consumer(sends: Any, words: str) -> None:
    with pytest.raises(Undescribable, match=words):
        document([consumer("Chat", item("a"), sends=sends)])


def test_a_message_without_a_type_is_called_by_its_class() -> None:
    class Either(TypedDict):
        type: Literal["one", "other"]

    described = document([consumer("Chat", item("a"), sends=(item("b"), Either))])
    assert {"Item", "Either"} <= set(messages(described, "Chat", "send"))


def test_routes_may_be_given_by_hand(official: Draft7Validator) -> None:
    described = document([Route(consumer=DropIn, address="/x/{y}/", parameters={"y": ""})], title="T", version="7")
    assert described["info"] == {"title": "T", "version": "7"}
    assert described["channels"]["DropIn"]["parameters"] == {"y": {}}
    assert errors(official, described) == []


def test_the_page_says_how_to_declare_what_is_sent() -> None:
    (code,) = re.findall(r"<!-- sends -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {"msgspec": msgspec, "TypedDict": TypedDict, "Literal": Literal, "SecureJsonConsumer": SecureJsonConsumer}
    exec(code, names)
    described = document([names["ChatConsumer"]])
    assert {"chat.said", "chat.joined"} <= set(messages(described, "ChatConsumer", "send"))
    said = names["Said"](user="alice", text="hello")
    assert encode(said) == encode(msgspec.to_builtins(said)) == b'{"type":"chat.said","user":"alice","text":"hello"}'


def test_the_page_says_how_to_show_it_to_everybody() -> None:
    (code,) = re.findall(r"<!-- open -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"path": path, "ChatConsumer": DropIn}
    exec(code, names)
    response = names["urlpatterns"][0].callback(RequestFactory().get("/docs/wire/"))
    assert response.status_code == 200
    assert b"DropIn" in response.content
