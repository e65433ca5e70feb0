"""End the open sockets of a user, a connection, an address or a session."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from channels_secure.connections import disconnect
from channels_secure.management.operators import OperatorCommand
from channels_secure.management.selectors import find_user, read_secret
from channels_secure.supervisor import push


class Command(OperatorCommand):
    help = "End the sockets that are open now; whoever may connect may come back. To keep somebody out use ws_block."

    def add_arguments(self, parser: ArgumentParser) -> None:
        subject = parser.add_mutually_exclusive_group(required=True)
        subject.add_argument("--user", help="A username, or the primary key of a user.")
        subject.add_argument("--connection", help="The id of a connection, as in the audit trail.")
        subject.add_argument("--ip", help="An address or network: 192.0.2.1, 192.0.2.0/24, 2001:db8::/64.")
        subject.add_argument("--session", nargs="?", const="-", help="A session's key; without one it is read.")
        parser.add_argument("--reason", default="disconnected", help="What clients are told, or words for the trail.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = None if options["user"] is None else find_user(options["user"])
        session = None if options["session"] is None else read_secret(options["session"], "Session key: ")
        try:
            disconnect(
                user=user,
                connection_id=options["connection"],
                ip=options["ip"],
                session_key=session,
                reason=options["reason"],
                by="ws_disconnect",
            )
        except ValueError as error:
            raise CommandError(f"{error}.") from error
        push.finish()
        subject = "the session" if session is not None else user or options["connection"] or options["ip"]
        self.stdout.write(self.style.SUCCESS(f"The sockets of {subject} end within a second."))
