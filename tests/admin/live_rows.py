"""Rows of open sockets, as the processes that have them write them."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from channels_secure.models import LiveConnection, LiveProcess


def process(name: str = "web1", *, is_alive: bool = True, pid: int = 42) -> LiveProcess:
    until = timezone.now() + timedelta(seconds=30 if is_alive else -1)
    made, _ = LiveProcess.objects.get_or_create(id=name, defaults={"host": name, "pid": pid, "lease_until": until})
    return made


def socket(name: str, user: User | None = None, **facts: Any) -> LiveConnection:
    """An open socket, for ten minutes, by a session unless said otherwise."""
    now = timezone.now()
    known: dict[str, Any] = {
        "connection_id": name,
        "process": facts.pop("process", None) or process(),
        "user": user,
        "username": "" if user is None else user.get_username(),
        "ip": "203.0.113.7",
        "path": f"/ws/{name}/",
        "credentials": "anonymous" if user is None else "session",
        "opened_at": now - timedelta(minutes=10),
        "heard_at": now,
    }
    return LiveConnection.objects.create(**{**known, **facts})


def sockets(count: int, user: User | None = None, **facts: Any) -> None:
    """So many, each from an address of its own."""
    now, owner = timezone.now(), process()
    LiveConnection.objects.bulk_create(
        LiveConnection(
            **{
                "connection_id": f"many-{number}",
                "process": owner,
                "user": user,
                "username": "" if user is None else user.get_username(),
                "ip": f"10.{number // 65536}.{number // 256 % 256}.{number % 256}",
                "path": "/ws/many/",
                "opened_at": now - timedelta(seconds=number),
                "heard_at": now,
                **facts,
            }
        )
        for number in range(count)
    )
