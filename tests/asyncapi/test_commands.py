"""`ws_asyncapi` and `ws_typescript`, as a shell and a build call them."""

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, ManagementUtility, call_command
from jsonschema import Draft7Validator
from pytest_django import Settings

from channels_secure.consumers import SecureJsonConsumer, handles
from tests.asyncapi.conftest import Compile, errors

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = "tests.asyncapi.wire.EverythingConsumer"
COMMANDS = pytest.mark.parametrize("command", ["ws_asyncapi", "ws_typescript"])


@pytest.fixture(autouse=True)
def _application(settings: Settings) -> None:
    settings.ASGI_APPLICATION = "tests.asyncapi.asgi.application"


def run(command: str, *arguments: str, **options: Any) -> str:
    out, err = StringIO(), StringIO()
    call_command(command, *arguments, stdout=out, stderr=err, no_color=True, **options)
    assert err.getvalue() == ""
    return out.getvalue()


def warnings(command: str, *arguments: str) -> list[str]:
    err = StringIO()
    call_command(command, *arguments, stdout=StringIO(), stderr=err, no_color=True)
    return err.getvalue().splitlines()


class Misdeclared(SecureJsonConsumer):
    @handles("ping")
    async def ping(self, message: dict[str, Any]) -> None: ...


class Odd(SecureJsonConsumer):
    @handles("odd")
    async def odd(self, message: dict[str, Any]) -> None: ...


Odd.odd.__doc__ = "A lone surrogate: \ud800."


def test_the_document_is_written_with_the_routes_of_the_application(official: Draft7Validator) -> None:
    described = json.loads(run("ws_asyncapi"))
    assert described["channels"]["EverythingConsumer"]["address"] == "/ws/{room}/"
    assert errors(official, described) == []


def test_title_and_version_are_the_apis(capsys: pytest.CaptureFixture[str]) -> None:
    # Not by `call_command`: Django has a `--version` of its own on the command line.
    utility = ManagementUtility(["manage.py", "ws_asyncapi", "--title", "Chät", "--version", "2.1", "--skip-checks"])
    utility.fetch_command("ws_asyncapi").run_from_argv(utility.argv)
    out = capsys.readouterr().out
    assert json.loads(out)["info"] == {"title": "Chät", "version": "2.1"}
    assert "Chät" in out


def test_only_the_consumers_that_are_asked_for_are_described() -> None:
    described = json.loads(run("ws_asyncapi", "--consumer", EVERYTHING, "--consumer", "tests.asyncapi.wire.DropIn"))
    addresses = {key: channel["address"] for key, channel in described["channels"].items()}
    assert addresses == {"EverythingConsumer": "/ws/{room}/", "DropIn": None}


def test_types_are_written_that_compile(compile_typescript: Compile) -> None:
    assert "\nexport type ToEverythingConsumer = " in (types := run("ws_typescript"))
    assert compile_typescript(types) == []


@COMMANDS
def test_a_file_is_written_and_found_up_to_date(command: str, tmp_path: Path) -> None:
    path = tmp_path / "wire"
    assert run(command, "--output", str(path)) == ""
    assert path.read_text(encoding="utf-8") == run(command)
    assert b"\r" not in path.read_bytes()
    assert run(command, "--check", str(path)) == ""


@COMMANDS
def test_a_file_that_is_out_of_date_fails_and_stays(command: str, tmp_path: Path) -> None:
    path = tmp_path / "wire"
    path.write_text("old")
    with pytest.raises(CommandError, match=r"wire is out of date: write it anew with --output") as failure:
        run(command, "--check", str(path))
    assert failure.value.returncode == 1
    assert path.read_text() == "old"


def test_another_declaration_makes_a_document_out_of_date(tmp_path: Path, settings: Settings) -> None:
    path = str(tmp_path / "wire.json")
    run("ws_asyncapi", "--output", path)
    settings.CHANNELS_SECURE = {"MESSAGE_RATES": {"user": "100/m"}}
    with pytest.raises(CommandError, match="out of date"):
        run("ws_asyncapi", "--check", path)


@COMMANDS
def test_a_file_that_cannot_be_read_or_written_is_said(command: str, tmp_path: Path) -> None:
    for option, word in (("--check", "read"), ("--output", "written")):
        with pytest.raises(CommandError, match=f"cannot be {word}: "):
            run(command, option, str(tmp_path / "no" / "folder"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(CommandError, match="cannot be read: "):
        run(command, "--check", str(tmp_path / "binary"))


@COMMANDS
@pytest.mark.parametrize(
    ("path", "words"),
    [
        (None, "^ASGI_APPLICATION is not set, so there are no routes to describe.$"),
        ("no.such.application", r"^ASGI_APPLICATION 'no.such.application' cannot be imported: ModuleNotFoundError: "),
        ("tests.asyncapi.asgi.no", r"^ASGI_APPLICATION 'tests.asyncapi.asgi.no' cannot be imported: ImportError: "),
        ("tests.asyncapi.broken.application", "cannot be imported: ZeroDivisionError: division by zero.$"),
    ],
)
def test_an_application_that_cannot_be_imported_is_said(
    command: str, path: str | None, words: str, settings: Settings
) -> None:
    settings.ASGI_APPLICATION = path
    with pytest.raises(CommandError, match=words):
        run(command)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("tests.asyncapi.wire.Nothing", "^'tests.asyncapi.wire.Nothing' cannot be imported: ImportError: "),
        ("nothing", "^'nothing' cannot be imported: ImportError: "),
        ("tests.asyncapi.wire.Said", "^'tests.asyncapi.wire.Said' is no consumer class.$"),
        ("tests.asyncapi.wire.may_shout", "^'tests.asyncapi.wire.may_shout' is no consumer class.$"),
        (f"{__name__}.Misdeclared", r"^Misdeclared.ping: 'ping' is a control frame of the package.$"),
    ],
)
def test_a_consumer_that_cannot_be_described_is_said(path: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run("ws_asyncapi", "--consumer", path)


def test_a_consumer_needs_no_application(settings: Settings) -> None:
    settings.ASGI_APPLICATION = None
    assert json.loads(run("ws_asyncapi", "--consumer", EVERYTHING))["channels"]["EverythingConsumer"]["address"] is None


@COMMANDS
def test_what_is_left_out_is_said(command: str, settings: Settings) -> None:
    settings.ASGI_APPLICATION = "tests.asyncapi.asgi.outside"
    outside = "it is outside SecureMiddlewareStack and"
    assert warnings(command) == [
        f"Warning: {EVERYTHING} at /out/ is left out: {outside} refuses every connection.",
        f"Warning: tests.asyncapi.wire.Plain at /plain/ is left out: {outside} not guarded.",
    ]


@COMMANDS
def test_a_project_without_consumers_is_said_to_have_none(command: str, settings: Settings) -> None:
    settings.ASGI_APPLICATION = "tests.asyncapi.asgi.nothing"
    assert warnings(command) == [
        "Warning: no consumer behind SecureMiddlewareStack was found, so nothing is described."
    ]


@COMMANDS
def test_words_that_are_no_text_are_written_all_the_same(command: str, tmp_path: Path) -> None:
    path = tmp_path / "wire"
    run(command, "--consumer", f"{__name__}.Odd", "--output", str(path))
    assert "\\ud800" in path.read_text(encoding="utf-8")
    assert run(command, "--consumer", f"{__name__}.Odd", "--check", str(path)) == ""


WRITE_BOTH = """
import django; django.setup()
from channels_secure.asyncapi import document, typescript
from channels_secure.asyncapi.project import as_json
from tests.asyncapi.asgi import application
found = document(application)
print(as_json(found), typescript(found))
"""


def test_every_process_writes_the_same() -> None:
    def write(seed: str) -> bytes:
        environ = {**os.environ, "PYTHONHASHSEED": seed, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        command = [sys.executable, "-c", WRITE_BOTH]
        return subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, timeout=60).stdout

    assert write("1") == write("2") != b""
