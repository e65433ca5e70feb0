"""The mixin where users have an email address for a name and a UUID for a key: a process of its own, for the model."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_users_who_log_in_with_an_email_address_and_have_a_uuid() -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.admin.emails.settings", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-m", "tests.admin.emails.visit"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "panel": [],
        "listed": ["ada@example.com"],
        "ended": True,
        "blocked": ["ada@example.com"],
        "actors": [["root@example.com", "192.0.2.99"]],
        "question": True,
        "found": True,
    }
