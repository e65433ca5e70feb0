"""The example's page under TypeScript's compiler, with the types of the messages that its consumer declares."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.node import ROOT, run_tsc

EXAMPLE = ROOT / "example_project"
WIRE = Path("chat", "static", "chat", "wire.d.ts")


def test_the_types_of_the_messages_are_those_of_the_consumer() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO", "DATABASE"))}
    done = subprocess.run(
        [sys.executable, "manage.py", "ws_typescript", "--check", str(WIRE)],
        check=False,
        cwd=EXAMPLE,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_says_and_hears_nothing_else() -> None:
    checked = run_tsc("--project", EXAMPLE / "tsconfig.json")
    assert checked.returncode == 0, checked.stdout


def test_a_message_that_nobody_declared_is_found(tmp_path: Path) -> None:
    # The project beside the package, as tsconfig.json has them.
    shutil.copytree(ROOT / "channels_secure" / "static", tmp_path / "channels_secure" / "static")
    shutil.copytree(EXAMPLE / "chat" / "static", tmp_path / "example_project" / "chat" / "static")
    shutil.copy(EXAMPLE / "tsconfig.json", tmp_path / "example_project")
    page = tmp_path / "example_project" / "chat" / "static" / "chat" / "room.js"
    page.write_text(page.read_text().replace('"room.slow"', '"room.slwo"'))
    checked = run_tsc("--project", tmp_path / "example_project" / "tsconfig.json")
    assert checked.returncode != 0
    assert '"room.slwo"' in checked.stdout
