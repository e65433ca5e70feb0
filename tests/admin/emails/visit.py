"""Walks an operator through the pages of a user; prints what there was to see, as JSON."""

import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402
from django.utils import timezone  # noqa: E402

from channels_secure.models import AuditEvent, Block, LiveConnection, LiveProcess, Revocation  # noqa: E402
from tests.admin.emails.models import Person  # noqa: E402

PEOPLE = "/admin/emails/person/"


def main() -> None:
    setup_test_environment()
    call_command("migrate", run_syncdb=True, verbosity=0)
    root = Person.objects.create(email="root@example.com", is_superuser=True)
    ada = Person.objects.create(email="ada@example.com")
    now = timezone.now()
    process = LiveProcess.objects.create(id="p", host="web1", pid=42, lease_until=now + timedelta(minutes=1))
    facts: dict[str, Any] = {"ip": "203.0.113.7", "path": "/ws/a/", "opened_at": now}
    LiveConnection.objects.create(connection_id="a", process=process, user=ada, username=ada.email, **facts)
    AuditEvent.objects.create(kind="handshake.denied", user=ada, username=ada.email, path="/ws/earlier/")
    client = Client(REMOTE_ADDR="192.0.2.99")
    client.force_login(root)
    seen = {"panel": panel(client, ada), **deeds(client, root, ada)}
    print(json.dumps(seen))


def panel(client: Client, person: Person) -> list[str]:
    html = unescape(client.get(f"{PEOPLE}{person.pk}/change/").content.decode())
    words = ("Not blocked.", "/ws/a/", "/ws/earlier/", "web1:42", f"liveconnection/disconnect/?user={person.pk}")
    return [word for word in words if word not in html]


def deeds(client: Client, root: Person, ada: Person) -> dict[str, Any]:
    asked = {"action": "websocket_disconnect", "_selected_action": [str(ada.pk)]}
    listed = re.findall(r"<li>(\S+) <span", client.post(PEOPLE, asked).content.decode())
    client.post(PEOPLE, {**asked, "confirmed": "yes"})
    ended = list(Revocation.objects.values_list("kind", "subject"))
    both = {"action": "websocket_block", "_selected_action": [str(ada.pk), str(root.pk)], "confirmed": "yes"}
    client.post(PEOPLE, both)
    question = client.get("/admin/channels_secure/liveconnection/disconnect/", {"user": str(ada.pk)}).content.decode()
    found = client.get("/admin/channels_secure/liveconnection/", {"user": str(ada.pk)}).content.decode()
    return {
        "listed": listed,
        "ended": ended == [("user", str(ada.pk))],
        "blocked": [block.user.email for block in Block.objects.all() if block.user],
        "actors": sorted(set(AuditEvent.objects.exclude(actor="").values_list("actor", "actor_from"))),
        "question": "Disconnect the user ada@example.com?" in question,
        "found": "/ws/a/" in found,
    }


main()
