"""The ready attacks in the hands of a user: under pytest and under Django's own runner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITH_PYTEST = """
import pytest
from channels_secure.testing import attacks, guarded
from tests.testing.targets import Chat, Naked

SOME = [attack for attack in attacks if attack.id in ("cross-site-hijack", "unencrypted")]

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attack", SOME)
async def test_guarded(attack, django_user_model):
    alice = await django_user_model.objects.acreate(username="alice")
    await attack.run(guarded(Chat.as_asgi()), "/ws/chat/", user=alice)

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attack", SOME)
async def test_naked(attack, django_user_model):
    alice = await django_user_model.objects.acreate(username="alice")
    await attack.run(Naked.as_asgi(), "/ws/chat/", user=alice)
"""
WITH_DJANGO = """
import sys
from django.contrib.auth.models import User
from django.test import TestCase, TransactionTestCase
from channels_secure.testing import SecureCommunicator, attacks, guarded, reset
from tests.testing.targets import Chat

class ChatTests(TransactionTestCase):
    def setUp(self):
        self.addCleanup(reset)

    async def test_attacks_are_repelled(self):
        alice = await User.objects.acreate(username="alice")
        for attack in attacks:
            with self.subTest(attack=attack.id):
                await attack.run(guarded(Chat.as_asgi()), "/ws/chat/", user=alice, server="uvicorn")

class AtomicTests(TestCase):
    def setUp(self):
        self.addCleanup(reset)
        self.alice = User.objects.create_user("alice")

    async def test_what_nobody_else_can_see_is_said_to_be_so(self):
        with self.assertRaisesRegex(ValueError, "alice.* a transaction that only the test sees: .*TransactionTestCase"):
            await SecureCommunicator(guarded(Chat.as_asgi()), "/ws/chat/", user=self.alice).shake_hands()

    async def test_who_needs_no_rows_needs_no_transactions(self):
        stranger = SecureCommunicator(guarded(Chat.as_asgi()), "/ws/chat/", origin="https://evil.example")
        (await stranger.shake_hands()).assert_refused("origin_not_allowed")

    def test_it_needs_no_pytest(self):
        self.assertNotIn("pytest", sys.modules)
"""


def run(folder: Path, *arguments: str, returns: int) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE": "sqlite",
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == returns, output
    return output


def test_pytest_names_each_attack_skips_what_does_not_apply_and_explains_what_got_through(tmp_path: Path) -> None:
    (tmp_path / "test_chat.py").write_text(WITH_PYTEST)
    options = ["-v", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
    output = run(tmp_path, "-m", "pytest", *options, str(tmp_path), returns=1)
    assert "test_guarded[cross-site-hijack] PASSED" in output
    assert "test_guarded[unencrypted] SKIPPED" in output
    assert "unencrypted: not applicable at /ws/chat/: REQUIRE_WSS is off" in output
    assert "test_naked[cross-site-hijack] FAILED" in output
    explanation = output[output.index("AttackSucceeded:") :]
    for words in (
        "got through at /ws/chat/: the socket opened for a page of https://evil.example",
        "V4.4.2",
        "remedy:",
    ):
        assert words in explanation
    # The failure shows the user's own line, and nothing of ours.
    assert "target.py" not in output


def test_django_s_own_runner_needs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "test_chat.py").write_text(WITH_DJANGO)
    output = run(tmp_path, "-m", "django", "test", "test_chat", "-v2", returns=0)
    assert "Ran 4 tests" in output
    assert "OK (skipped=2)" in output
    assert "REQUIRE_WSS is off" in output
    assert "the frames of this consumer are plain JSON" in output


@pytest.mark.parametrize("module", ["channels_secure.testing"])
def test_the_tools_do_not_import_pytest(module: str) -> None:
    source = f"import sys, django; django.setup(); import {module}; sys.exit('pytest' in sys.modules)"
    assert run(ROOT, "-c", source, returns=0) == ""
