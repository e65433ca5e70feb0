"""List the open sockets of all processes."""

import json
from argparse import ArgumentParser
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from channels_secure.management.output import listing
from channels_secure.management.selectors import find_user
from channels_secure.models import LiveConnection
from channels_secure.policy.addresses import IPNetwork, network_for, parse_address
from channels_secure.policy.networks import NetworkSet

COLUMNS = ("id", "user", "address", "path", "credentials", "since", "last_heard", "process")
CHUNK = 1000


class Command(BaseCommand):
    help = "List the open sockets of all processes, as these have last written them: they lag by a second or two."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", help="Only of this user: a username, or a primary key.")
        parser.add_argument("--ip", help="Only from this address or network: 192.0.2.1, 192.0.2.0/24, 2001:db8::/64.")
        parser.add_argument("--path", help="Only those whose path begins so.")
        shape = parser.add_mutually_exclusive_group()
        shape.add_argument("--json", action="store_true", help="One JSON object a line.")
        shape.add_argument("--count", action="store_true", help="Only how many they are.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = _find(user=options["user"], ip=options["ip"], path=options["path"])
        if options["count"]:
            self.stdout.write(str(sum(1 for _ in found)))
            return
        # Closed here: what a reader who has left did not want still holds the database's cursor.
        with listing(self.stdout), closing(found):
            self._list(found, as_json=options["json"])

    def _list(self, found: Iterator[LiveConnection], *, as_json: bool) -> None:
        if not as_json:
            self.stdout.write("\t".join(COLUMNS))
        for connection in found:
            row = _row(connection)
            # Names and paths were made plain text before they were stored: no tab, no line break, no escape sequence.
            self.stdout.write(json.dumps(row) if as_json else "\t".join(value or "-" for value in row.values()))


def _find(*, user: str | None, ip: str | None, path: str | None) -> Generator[LiveConnection]:
    rows = LiveConnection.objects.live().select_related("process")
    if user is not None:
        rows = rows.filter(user=find_user(user))
    if path is not None:
        rows = rows.filter(path__startswith=path)
    network = None if ip is None else _network(ip)
    for row in rows.iterator(CHUNK):
        if network is None or _is_in(row.ip, network):
            yield row


def _network(text: str) -> IPNetwork:
    try:
        return network_for(text, 128)
    except ValueError as error:
        raise CommandError(f"{error}.") from error


def _is_in(text: str, network: IPNetwork) -> bool:
    address = parse_address(text)
    return address is not None and NetworkSet([network]).contains(address)


def _row(connection: LiveConnection) -> dict[str, str]:
    values = (
        connection.connection_id,
        connection.username,
        connection.ip,
        connection.path,
        connection.credentials,
        _moment(connection.opened_at),
        _moment(connection.heard_at),
        str(connection.process),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _moment(when: datetime | None) -> str:
    return "" if when is None else when.isoformat(timespec="seconds")
