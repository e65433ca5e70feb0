"""The example project, described: what a reader of its page and of its document gets."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.asyncapi.conftest import errors
from tests.asyncapi.test_document import follow, messages, references
from tests.node import ROOT

EXAMPLE = ROOT / "example_project"
VISIT = """
import django; django.setup()
from django.test import Client
client = Client(headers={"host": "localhost"})
assert b'<a href="/wire/">' in client.get("/login/").content
page = client.get("/wire/")
print(page.status_code, page["Content-Security-Policy"], page.content.decode(), sep="\\n")
"""


def run(*arguments: str) -> str:
    """What a program says in the example's folder, under the example's settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO", "DATABASE"))}
    environ |= {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "config.settings"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, check=False, cwd=EXAMPLE, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("manage.py", "ws_asyncapi"))
    return found


def test_the_document_of_the_example_is_valid(described: dict[str, Any], official: Draft7Validator) -> None:
    assert errors(official, described) == []
    for reference in references(described):
        assert follow(described, reference) is not None


def test_it_says_what_is_said_in_its_rooms(described: dict[str, Any]) -> None:
    (channel,) = [key for key, each in described["channels"].items() if each["address"] == "/ws/chat/{room}/"]
    assert {"room.say", "room.mute", "keys.fetch", "ping"} <= set(messages(described, channel, "receive"))
    assert {"room.said", "room.moderated", "keys.epoch", "error"} <= set(messages(described, channel, "send"))


def test_every_page_links_the_description_and_anybody_may_read_it() -> None:
    status, policy, html = run("-c", VISIT).split("\n", 2)
    assert status == "200"
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "/ws/chat/{room}/" in html
    assert "room.moderated" in html
