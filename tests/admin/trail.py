"""A long trail, and what the list of its events says of it."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

from django.test import Client

from channels_secure.models import AuditEvent

EVENTS = "/admin/channels_secure/auditevent/"
EXPORT = f"{EVENTS}export/"
# With microseconds, which a link to older events has to carry.
MOMENT = datetime(2026, 3, 5, 9, 41, 7, 123456, tzinfo=UTC)


def events(count: int, newest: datetime = MOMENT, **facts: Any) -> list[AuditEvent]:
    """So many, each a second older than the one before it; their paths are their numbers."""
    return AuditEvent.objects.bulk_create(
        AuditEvent(
            **{
                "kind": "handshake.denied",
                "path": f"/{number}/",
                "created_at": newest - timedelta(seconds=number),
                **facts,
            }
        )
        for number in range(count)
    )


def look(client: Client, query: str = "", **asked: Any) -> str:
    """What the list says; AssertionError where it sends elsewhere."""
    response = client.get(EVENTS + query, asked)
    assert response.status_code == 200, response.headers.get("Location")
    return str(response.content.decode())


def shown(html: str) -> list[int]:
    """The numbers of the listed events."""
    return [int(number) for number in re.findall(r">/(\d+)/<", html)]


def link(html: str, words: str) -> str:
    """Where a link leads; empty if there is none."""
    found = re.search(rf'<a href="([^"]*)">{words}</a>', html)
    return unescape(found[1]) if found else ""
