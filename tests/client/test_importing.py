"""What the client needs: the library, and none of Django."""

import subprocess
import sys

PROGRAM = """
import sys
from channels_secure.client import SecureSocket
SecureSocket("wss://chat.example.com/", token="a.b.c")
print(sorted({name.split(".")[0] for name in sys.modules} & {"django", "channels", "asgiref", "redis", "jwt"}))
"""


WITHOUT = """
import sys
sys.modules["websockets"] = None
try:
    import channels_secure.client
except ImportError as error:
    print(error)
"""


def test_without_the_library_the_extra_is_named() -> None:
    found = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True, timeout=60)
    assert "channels-secure[client]" in found.stdout


def test_the_client_imports_no_django() -> None:
    # A process of its own: in this one, everything is imported already.
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
