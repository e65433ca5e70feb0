"""Block a user or a network."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from channels_secure import blocklist
from channels_secure.management.operators import OperatorCommand
from channels_secure.management.selectors import add_selectors, find_user, seconds_of


class Command(OperatorCommand):
    help = "Block a user, an address or a network; their open sockets are closed within a second."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_selectors(parser)
        parser.add_argument("--duration", default="forever", help="Seconds, or 15m, 1h, 24h, 7d; default: forever.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = None if options["user"] is None else find_user(options["user"])
        seconds = seconds_of(options["duration"])
        try:
            block = blocklist.block(
                user=user, network=options["network"], duration=seconds, reason=options["reason"], by="ws_block"
            )
        except ValueError as error:
            raise CommandError(f"{error}.") from error
        until = "for ever" if block.expires_at is None else f"until {block.expires_at.isoformat(timespec='seconds')}"
        self.stdout.write(self.style.SUCCESS(f"{block.subject} is blocked {until}."))
