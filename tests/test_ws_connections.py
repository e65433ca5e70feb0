"""`ws_connections`, as a shell calls it."""

import gc
import json
import os
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import GeneratorType

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from channels_secure.models import LiveConnection, LiveProcess
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db

SINCE = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


def run(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("ws_connections", *arguments, stdout=out, no_color=True)
    return out.getvalue().splitlines()


def ids(*arguments: str) -> set[str]:
    return {json.loads(line)["id"] for line in run("--json", *arguments)}


@pytest.fixture(autouse=True)
def _open_sockets(user: User, make_user: MakeUser) -> None:
    soon = timezone.now() + timedelta(minutes=1)
    alive = LiveProcess.objects.create(id="alive", host="web1", pid=42, lease_until=soon)
    dead = LiveProcess.objects.create(id="dead", host="web2", pid=43, lease_until=timezone.now() - timedelta(seconds=1))
    for number, (name, person, ip, path) in enumerate(
        [
            ("a", user, "192.0.2.1", "/ws/chat/lobby/"),
            ("b", make_user("bob"), "192.0.2.77", "/ws/chat/kitchen/"),
            ("c", None, "2001:db8::1", "/ws/news/"),
        ]
    ):
        LiveConnection.objects.create(
            connection_id=name,
            process=alive,
            user=person,
            username="" if person is None else person.username,
            ip=ip,
            path=path,
            credentials="anonymous" if person is None else "session",
            opened_at=SINCE - timedelta(minutes=number),
            heard_at=SINCE if name == "a" else None,
        )
    LiveConnection.objects.create(connection_id="lost", process=dead, user=user, opened_at=SINCE)


def test_every_open_socket_is_a_line_the_newest_first() -> None:
    assert run() == [
        "id\tuser\taddress\tpath\tcredentials\tsince\tlast_heard\tprocess",
        "a\talice\t192.0.2.1\t/ws/chat/lobby/\tsession\t2026-11-21T08:30:00+00:00\t2026-11-21T08:30:00+00:00\tweb1:42",
        "b\tbob\t192.0.2.77\t/ws/chat/kitchen/\tsession\t2026-11-21T08:29:00+00:00\t-\tweb1:42",
        "c\t-\t2001:db8::1\t/ws/news/\tanonymous\t2026-11-21T08:28:00+00:00\t-\tweb1:42",
    ]


def test_a_line_of_json_says_the_same() -> None:
    assert json.loads(run("--json")[0]) == {
        "id": "a",
        "user": "alice",
        "address": "192.0.2.1",
        "path": "/ws/chat/lobby/",
        "credentials": "session",
        "since": "2026-11-21T08:30:00+00:00",
        "last_heard": "2026-11-21T08:30:00+00:00",
        "process": "web1:42",
    }


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--user", "alice"), {"a"}),
        (("--ip", "192.0.2.1"), {"a"}),
        (("--ip", "192.0.2.0/24"), {"a", "b"}),
        (("--ip", "2001:db8::1"), {"c"}),
        (("--ip", "2001:db8::2"), set()),
        (("--ip", "2001:db8::/32"), {"c"}),
        (("--path", "/ws/chat/"), {"a", "b"}),
        (("--path", "chat"), set()),
        (("--ip", "192.0.2.0/24", "--path", "/ws/chat/k"), {"b"}),
    ],
)
def test_filters_narrow_the_list_together(arguments: tuple[str, ...], found: set[str]) -> None:
    assert ids(*arguments) == found
    assert run("--count", *arguments) == [str(len(found))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--user", "nobody"), "no user 'nobody'"),
        (("--ip", "nonsense"), "is not an IP address"),
        (("--json", "--count"), "not allowed with argument"),
    ],
)
def test_a_mistake_is_told_in_plain_words(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run(*arguments)


@pytest.mark.parametrize("size", [0, 500])
def test_a_reader_who_leaves_ends_the_list_in_peace(size: int) -> None:
    """As `| head` does; what Python had in its buffer must not fail again when the stream is closed."""
    alive = LiveProcess.objects.get(id="alive")
    LiveConnection.objects.bulk_create(
        LiveConnection(connection_id=f"n{number}", process=alive, path="/" * 200, opened_at=SINCE)
        for number in range(size)
    )
    reader, writer = os.pipe()
    os.close(reader)
    before = open_cursors()
    with os.fdopen(writer, "w", encoding="utf-8") as out:
        call_command("ws_connections", stdout=out)
    # One that is left to the garbage collector is closed after its connection, and complains of that.
    assert open_cursors() <= before


def open_cursors() -> int:
    """How many of Django's iterations over a cursor somebody has begun and not ended."""
    return sum(isinstance(each, GeneratorType) and each.__name__ == "cursor_iter" for each in gc.get_objects())
