"""Rows of live sockets that somebody else's transaction holds: neither waits for the other in a circle."""

import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.utils import timezone

from channels_secure.models import LiveConnection, LiveProcess
from channels_secure.supervisor import rolls
from tests.conftest import MakeUser

pytestmark = pytest.mark.django_db(transaction=True)


class Heard:
    """What `rolls.count` reads of a socket."""

    heard_at, received = 1.0, 7

    def __init__(self, key: str) -> None:
        self.id = key
        self.conduct = type("Conduct", (), {"violations": 0})()


def in_thread(call: Any) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    return thread, raised


def wait_for_waiters(count: int) -> None:
    for _ in range(500):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0] >= count:
                return
        threading.Event().wait(0.01)


def test_counting_what_sockets_have_received_never_keeps_a_project_from_deleting_users(make_user: MakeUser) -> None:
    if connection.vendor != "postgresql":
        # The others lock whole tables or wait for nobody.
        return
    users = [make_user(f"user{number}") for number in range(3)]
    process = LiveProcess.objects.create(id="here", host="here", pid=1, lease_until=timezone.now())
    LiveConnection.objects.bulk_create(
        LiveConnection(connection_id=f"c{number}", process=process, user=user, opened_at=timezone.now())
        for number, user in enumerate(users)
    )
    held, done = threading.Event(), threading.Event()

    def delete() -> None:
        with transaction.atomic():
            User.objects.get(pk=users[2].pk).delete()
            held.set()
            done.wait(10)
            User.objects.get(pk=users[0].pk).delete()

    def hold_the_middle() -> None:
        with transaction.atomic():
            list(LiveConnection.objects.select_for_update().filter(pk="c1"))
            middle.set()
            free.wait(20)

    middle, free = threading.Event(), threading.Event()
    holder, _ = in_thread(hold_the_middle)
    assert middle.wait(10)
    project, refused = in_thread(delete)
    assert held.wait(10)
    # Ours has the first row and waits for the second; the project has the third and waits for the first.
    writer, failed = in_thread(lambda: rolls.count([Heard(f"c{number}") for number in range(3)]))  # type: ignore[arg-type]
    wait_for_waiters(1)
    done.set()
    wait_for_waiters(2)
    free.set()
    for thread in (holder, project, writer):
        thread.join(20)
    assert refused == []
    assert failed == []
    assert not User.objects.filter(pk__in=[users[0].pk, users[2].pk]).exists()
