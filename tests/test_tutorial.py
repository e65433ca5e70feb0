"""The tutorial's steps, taken as a reader takes them: its files in a new project, its commands, its frames."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(r"<!-- (?P<what>file|frame): (?P<name>[^>]*?) -->\n```\w+\n(?P<body>.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ (python manage\.py .*)$", re.MULTILINE)

PROBE = """
import asyncio, json
from django.contrib.auth.models import User
from channels_secure.testing import SecureCommunicator
from mysite.asgi import application

async def main():
    alice = await User.objects.aget(username="alice")
    async with SecureCommunicator(application, "/ws/chat/lobby/", user=alice) as socket:
        await socket.send_json_to({"type": "chat.say", "text": "hello"})
        said = await socket.receive_json_from()
        await socket.send_json_to({"type": "chat.say", "text": "", "id": 7})
        invalid = await socket.receive_json_from()
        process = await asyncio.create_subprocess_exec(*BLOCK)
        assert await process.wait() == 0
        blocked = await socket.receive_json_from(timeout=5)
        closing = await socket.closing()
    stranger = await SecureCommunicator(application, "/ws/chat/lobby/").shake_hands()
    again = await SecureCommunicator(application, "/ws/chat/lobby/", user=alice).shake_hands()
    print(json.dumps({"said": said, "invalid": invalid, "blocked": blocked, "closing": closing,
                      "stranger": stranger.error, "stranger_code": stranger.code, "again": again.error}))

asyncio.run(main())
"""


def run(project: Path, *arguments: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO", "DATABASE"))}
    environ |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "DJANGO_SUPERUSER_PASSWORD": "correct horse"}
    done = subprocess.run(
        [sys.executable, *arguments], check=False, cwd=project, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it stands after the reader has written every file."""
    folder = tmp_path_factory.mktemp("tutorial")
    run(folder, "-m", "django", "startproject", "mysite", ".")
    for match in BLOCK.finditer(TEXT):
        if match["what"] == "file":
            name, _, how = match["name"].partition(" ")
            with (folder / name).open("a" if how == "(append)" else "w") as file:
                file.write(match["body"])
    return folder


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    return [command.split() for command in COMMAND.findall(TEXT)]


@pytest.fixture(scope="module")
def outcome(project: Path) -> dict[str, object]:
    """What a client of the running chat sees, step by step."""
    run(project, "manage.py", "migrate", "-v0")
    run(project, "manage.py", "createsuperuser", "--noinput", "--username", "alice", "--email", "")
    block = [sys.executable, "manage.py", "ws_block", "--user", "alice", "--duration", "1h", "--reason", "spam"]
    probe = PROBE.replace("*BLOCK", f"*{block!r}")
    # The last line: the command that blocks has said its own before.
    seen: dict[str, object] = json.loads(run(project, "manage.py", "shell", "-v0", "-c", probe).splitlines()[-1])
    return seen


def frame(name: str) -> dict[str, object]:
    return next(json.loads(match["body"]) for match in BLOCK.finditer(TEXT) if match["name"] == name)


def test_the_commands_of_the_tutorial_are_those_run_here(commands: list[list[str]]) -> None:
    assert [command[2] for command in commands] == [
        "migrate",
        "createsuperuser",
        "check",
        "runserver",
        "ws_block",
        "test",
    ]


def test_the_project_passes_its_checks(project: Path) -> None:
    assert "no issues" in run(project, "manage.py", "check")


def test_what_is_said_is_heard(outcome: dict[str, object]) -> None:
    assert outcome["said"] == {"type": "chat.said", "user": "alice", "text": "hello"}


def test_nonsense_is_answered_as_the_tutorial_shows(outcome: dict[str, object]) -> None:
    assert outcome["invalid"] == frame("invalid")


def test_a_stranger_is_told_what_the_tutorial_shows(outcome: dict[str, object]) -> None:
    assert (outcome["stranger"], outcome["stranger_code"]) == (frame("stranger"), 4401)


def test_a_block_closes_the_open_socket_and_refuses_the_next(outcome: dict[str, object]) -> None:
    assert outcome["blocked"]["code"] == "blocked"  # type: ignore[index]
    assert outcome["closing"] == [4423, "blocked"]
    assert outcome["again"]["code"] == "blocked"  # type: ignore[index]


def test_the_tests_of_the_tutorial_pass(project: Path) -> None:
    run(project, "manage.py", "test", "-v0")
