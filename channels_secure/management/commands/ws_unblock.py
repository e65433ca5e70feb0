"""Lift the blocks of a user or a network."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from channels_secure import blocklist
from channels_secure.management.operators import OperatorCommand
from channels_secure.management.selectors import add_selectors, find_user


class Command(OperatorCommand):
    help = "Lift every active block of a user, or of exactly this address or network."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_selectors(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        user = None if options["user"] is None else find_user(options["user"])
        try:
            count = blocklist.unblock(user=user, network=options["network"], by="ws_unblock", reason=options["reason"])
        except ValueError as error:
            raise CommandError(f"{error}.") from error
        if not count:
            raise CommandError(f"There is no active block of {options['user'] or options['network']}.")
        self.stdout.write(self.style.SUCCESS(f"Lifted {count} block{'s' if count > 1 else ''}."))
