"""What the client needs: the library, and none of Django."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from channels_secure.client import SecureSocket
SecureSocket("wss://chat.example.com/", token="a.b.c")
print(sorted({name.split(".")[0] for name in sys.modules} & {"django", "channels", "asgiref", "redis", "jwt"}))
"""


WITHOUT = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
{loss}
django.setup()
import channels_secure.consumers, channels_secure.middleware, channels_secure.pytest_plugin, channels_secure.testing
from django.core.management import call_command
call_command("check", "channels_secure")
try:
    import channels_secure.client
except ImportError as error:
    print(error)
"""
LOSSES = {
    "missing": 'sys.modules["websockets"] = None',
    "too old": "import websockets.exceptions; del websockets.exceptions.InvalidProxy",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_without_the_library_only_the_client_is_missing_and_names_its_extra(loss: str) -> None:
    program = WITHOUT.format(loss=LOSSES[loss])
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.splitlines()[-1] == 'the client needs an extra: pip install "channels-secure[client]"'


def test_the_client_imports_no_django() -> None:
    # A process of its own: in this one, everything is imported already.
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
