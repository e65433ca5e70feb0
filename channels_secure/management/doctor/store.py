"""The store: whether it answers, and what time it has."""

import asyncio
import time

from django.core.exceptions import ImproperlyConfigured

from channels_secure.management.doctor.findings import PATIENCE, Finding, clock_finding
from channels_secure.stores import get_store

ADVICE = "Start the server, or correct STORE['LOCATION']; until then each process counts for itself."


async def examine() -> list[Finding]:
    try:
        store = get_store()
    except ImproperlyConfigured as error:
        return [Finding(f"{error}.", "Correct CHANNELS_SECURE['STORE'].")]
    server_time = getattr(store, "server_time", None)
    if server_time is None:
        return []
    before = time.time()
    try:
        async with asyncio.timeout(PATIENCE):
            theirs = await server_time()
    except Exception as error:  # noqa: BLE001 - whatever a back-end raises is the finding
        # Not the text: a client may quote its URL, which may hold a password.
        return [Finding(f"The store does not answer ({_names(error)}).", ADVICE)]
    finally:
        await store.rest()
    finding = clock_finding("the store", theirs, before, time.time())
    return [] if finding is None else [finding]


def _names(error: BaseException) -> str:
    cause = error.__cause__
    return type(error).__name__ if cause is None else type(cause).__name__
