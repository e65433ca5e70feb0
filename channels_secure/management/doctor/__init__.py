"""What is wrong with a deployment as it runs: what system checks, which ask nobody, cannot find."""

import asyncio
from collections.abc import Iterator

from channels_secure.checks.settings import readable_settings
from channels_secure.management.doctor import databases, installed, layers, running, store
from channels_secure.management.doctor.findings import Finding

__all__ = ["Finding", "examine"]


def examine() -> Iterator[Finding]:
    """Everything that is found to be wrong; takes some seconds where something does not answer."""
    yield from installed.examine()
    broken = list(databases.examine())
    yield from broken
    if readable_settings() is None:
        yield Finding("CHANNELS_SECURE is wrong, so that no WebSocket is served.", "Run `manage.py check`.")
        return
    if not broken:
        yield from running.examine()
    yield from asyncio.run(store.examine())
    yield from asyncio.run(layers.examine())
