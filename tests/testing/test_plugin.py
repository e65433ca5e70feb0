"""The plugin in projects that did not ask for it: it is loaded wherever the package is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = {
    "without Django": """
import sys

def test_it():
    assert not {"django", "channels", "channels_secure.conf", "channels_secure.testing"} & set(sys.modules)
""",
    "without settings": """
import sys
import channels_secure.conf

def test_it():
    assert not {"django.test", "channels_secure.testing", "channels_secure.models"} & set(sys.modules)
""",
    "without Daphne": """
import sys
sys.modules["daphne"] = None
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "channels_secure"])
django.setup()

def test_it(secure_communicator, as_user, unlimited):
    import channels_secure.testing
""",
}


@pytest.mark.parametrize("source", PROJECTS.values(), ids=PROJECTS)
def test_the_plugin_breaks_nothing(source: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(source)
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    plugins = [part for name in ("django", "asyncio", "cacheprovider") for part in ("-p", f"no:{name}")]
    done = subprocess.run(
        # Installed or not: the plugin is what the entry point names.
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-c", "/dev/null", *plugins, str(tmp_path)],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
