"""What the figures were measured on."""

import os
import platform
import resource
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

PACKAGES = (
    "django", "channels", "msgspec", "uvicorn", "uvloop", "websockets", "daphne",
    "chanx", "djangochannelsrestframework",
)  # fmt: skip


def describe() -> str:
    """Return date, processor, load, Python and versions, in one sentence."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES if find_spec(name))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()} with {os.cpu_count()} cores, load {load}; "
        f"{platform.system()}, {platform.python_implementation()} {platform.python_version()}, {versions}."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def allow_many_sockets() -> None:
    """Raise the soft limit on open files to the hard one; the servers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
