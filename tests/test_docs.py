"""The documentation's tables say what the code says."""

import logging
import logging.config
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.dispatch import Signal
from pytest_django import Settings

from channels_secure import models, signals
from channels_secure.conf import CONSUMER_KEYS, KEYS
from channels_secure.consumers import SecureJsonConsumer
from channels_secure.groups import broadcast
from channels_secure.policy.decisions import RULES
from channels_secure.testing import SecureCommunicator, guarded

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
LOGGING_PAGE = ROOT / "docs" / "howto" / "logging.md"
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


def rows(page: Path) -> list[list[str]]:
    """The cells of every table row of a page, without its rules and headings."""
    lines = [line for line in page.read_text().split("\n") if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]


def code(cell: str) -> str:
    return cell.strip("`")


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {code(row[0]): row for row in rows(REFERENCE / "settings.md") if row[0].startswith("`")}
    assert set(documented) == set(KEYS)
    for name, key in KEYS.items():
        assert code(documented[name][2]) == repr(key.default).replace("'", '"'), name


def test_the_settings_that_a_consumer_may_override_are_marked() -> None:
    marked = {code(row[0]).lower() for row in rows(REFERENCE / "settings.md") if row[1] == "**c**"}
    assert marked == CONSUMER_KEYS


def test_every_reason_is_documented_as_it_is_sent() -> None:
    documented = [row for row in rows(REFERENCE / "reasons.md") if row[0].startswith("`")]
    assert documented == [
        [f"`{reason.value}`", str(rule.close), str(rule.status or "–"), rule.reconnect, rule.message]
        for reason, rule in RULES.items()
    ]


def test_the_readme_lists_every_close_code_rightly() -> None:
    documented = {code(row[0]): row[1:3] for row in rows(ROOT / "README.md") if code(row[0]) in set(RULES)}
    assert documented == {reason.value: [str(rule.close), str(rule.status or "–")] for reason, rule in RULES.items()}


@pytest.mark.django_db(transaction=True)
async def test_the_code_of_the_readme_is_a_chat(monkeypatch: pytest.MonkeyPatch, user: User) -> None:
    routes, consumers = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    async def may_enter(person: User, room: str) -> bool:
        return person == user and room == "lobby"

    module = ModuleType("chat.consumers")
    vars(module)["may_enter"] = may_enter
    exec(consumers, vars(module))
    monkeypatch.setitem(sys.modules, "chat.consumers", module)
    asgi: dict[str, Any] = {"application": get_asgi_application()}
    exec(routes, asgi)
    async with SecureCommunicator(asgi["application"], "/ws/chat/lobby/", user=user) as alice:
        await alice.send_json_to({"type": "chat.say", "text": "hello"})
        assert await alice.receive_json_from() == {"type": "chat.said", "text": "hello"}
    outcome = await SecureCommunicator(asgi["application"], "/ws/chat/staff/", user=user).shake_hands()
    assert outcome.error["code"] == "permission_denied"


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= 150


def test_every_field_of_the_models_is_documented() -> None:
    text = (REFERENCE / "models.md").read_text()
    evidence = (models.AuditHead, models.AuditCheckpoint, models.AuditRollup)
    for model in (models.AuditEvent, *evidence, models.Block, models.LiveConnection, models.LiveProcess):
        for field in model._meta.concrete_fields:
            assert field.name == "id" or f"`{field.name}`" in text, f"{model.__name__}.{field.name}"


def test_every_public_signal_is_documented() -> None:
    text = (REFERENCE / "signals.md").read_text()
    public = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    internal = {"policy_changed", "handshake_counted", "end_counted", "sockets_counted"}
    assert public - internal == set(re.findall(r"`((?:connection|handshake|message|block|store|event)_\w+ed)`", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


# Recipes -------------------------------------------------------------------------------------------------------------


def block(page: Path, marker: str) -> str:
    """The code that stands behind `<!-- marker -->` on a page."""
    (found,) = re.findall(rf"<!-- {marker} -->\n```\w+\n(.*?)```", page.read_text(), re.DOTALL)
    return str(found)


def logging_recipe() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(block(LOGGING_PAGE, "logging"), names)
    recipe: dict[str, Any] = names["LOGGING"]
    return recipe


def test_the_example_logs_as_the_page_says() -> None:
    source = (ROOT / "example_project" / "config" / "settings.py").read_text()
    assert block(LOGGING_PAGE, "logging") in source


@pytest.mark.django_db(transaction=True)
async def test_a_refusal_is_logged_with_its_reason_as_the_page_shows(caplog: pytest.LogCaptureFixture) -> None:
    recipe = logging_recipe()
    formatter = logging.config.DictConfigurator(recipe).configure_formatter(recipe["formatters"]["websockets"])
    app = guarded(SecureJsonConsumer.as_asgi())
    stranger = SecureCommunicator(app, "/ws/chat/lobby/", client="127.0.0.1", origin="https://evil.example")
    await stranger.shake_hands()
    (record,) = [record for record in caplog.records if record.getMessage() == "handshake.denied"]
    timeless = re.compile(r"^\S+ \S+ ", re.MULTILINE)
    documented = timeless.sub("", block(LOGGING_PAGE, "lines")).splitlines()
    assert timeless.sub("", formatter.format(record)) == documented[0]
    # A record with none of the attributes is written too.
    bare = logging.makeLogRecord({"name": "channels_secure", "levelname": "ERROR", "msg": "audit.lost"})
    assert formatter.format(bare).endswith(" ERROR audit.lost reason= user= ip= path=")


@pytest.mark.django_db(transaction=True)  # Channels tidies the connection that an earlier test left in its thread
async def test_a_plain_consumer_hears_a_broadcast_as_the_page_says(settings: Settings) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    names: dict[str, Any] = {"AsyncWebsocketConsumer": AsyncWebsocketConsumer}
    exec(block(REFERENCE / "consumer.md", "plain"), names)
    plain = WebsocketCommunicator(names["Plain"].as_asgi(), "/")
    await plain.connect()
    await broadcast("news", {"type": "news", "text": "hello"})
    assert await plain.receive_json_from() == {"type": "news", "text": "hello"}
    await plain.disconnect()
