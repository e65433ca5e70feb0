"""Commands that change something: the audit trail says by whose hand, and on which machine."""

import getpass
import socket
from typing import Any

from django.core.management.base import BaseCommand

from channels_secure import audit


class OperatorCommand(BaseCommand):
    """A command whose changes are recorded with the account and machine that ran it."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        with audit.acting_from(here()):
            return super().execute(*args, **options)


def here() -> str:
    """The account and machine of this process, `deploy@web-1` say."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        account = "?"
    return f"{account}@{socket.gethostname()}"
