"""Revoke access tokens."""

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from channels_secure import revocation
from channels_secure.management.operators import OperatorCommand
from channels_secure.management.selectors import find_user, read_secret
from channels_secure.supervisor import push


class Command(OperatorCommand):
    help = "Revoke an access token, or all that a user has been given until now; their sockets end within a second."

    def add_arguments(self, parser: ArgumentParser) -> None:
        subject = parser.add_mutually_exclusive_group(required=True)
        subject.add_argument("--user", help="A username, or the primary key of a user.")
        subject.add_argument("--token", nargs="?", const="-", help="A token; without one it is read, and not shown.")
        subject.add_argument("--jti", help="The identifier of a token.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            revoked = self._revoke(options)
        except (ValueError, ConnectionError, ImproperlyConfigured) as error:
            raise CommandError(f"{error}.") from error
        push.finish()
        self.stdout.write(self.style.SUCCESS(f"{revoked} revoked."))

    @staticmethod
    def _revoke(options: dict[str, Any]) -> str:
        if options["user"] is not None:
            user = find_user(options["user"])
            revocation.revoke_user_tokens(user, by="ws_revoke")
            return f"The tokens of {user} are"
        if options["jti"] is not None:
            revocation.revoke_jti(options["jti"], by="ws_revoke")
        else:
            revocation.revoke_token(read_secret(options["token"], "Token: "), by="ws_revoke")
        return "The token is"
