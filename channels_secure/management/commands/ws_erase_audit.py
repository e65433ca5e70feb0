"""Erase a person from the audit trail."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from channels_secure.audit.erasing import Person, by_ip, by_user, by_username, erase, find
from channels_secure.management.operators import OperatorCommand
from channels_secure.management.selectors import find_user


class Command(OperatorCommand):
    help = "Erase a person from the audit trail: their rows stay, count and verify, and no longer say who it was."

    def add_arguments(self, parser: ArgumentParser) -> None:
        person = parser.add_mutually_exclusive_group(required=True)
        person.add_argument("--user", help="A username, or the primary key of a user.")
        person.add_argument("--username", help="The name of a user who is deleted.")
        person.add_argument("--ip", help="An address: 192.0.2.1, 2001:db8::1, or as sums have it, 2001:db8::/64.")
        parser.add_argument("--dry-run", action="store_true", help="Only say how many rows it concerns.")
        parser.add_argument("--no-input", action="store_false", dest="interactive", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        person = _person(options)
        found = find(person)
        what = f"{found.rows} rows of this person, and their name in {found.acted} of what they did to others"
        if options["dry_run"]:
            self.stdout.write(f"{what}, would be erased.")
            return
        if options["interactive"] and input(f"Erase {what}? This cannot be undone. Type 'yes': ") != "yes":
            raise CommandError("Nothing was erased.")
        erased = erase(person, actor="ws_erase_audit")
        self.stdout.write(self.style.SUCCESS(f"Erased {erased.rows} rows, and the name in {erased.acted} others."))


def _person(options: dict[str, Any]) -> Person:
    if options["user"] is not None:
        return by_user(find_user(options["user"]))
    text = options["username"] if options["ip"] is None else options["ip"]
    if not text.strip():
        raise CommandError("Name somebody: an empty text is not nobody's name.")
    return by_username(text) if options["ip"] is None else by_ip(text)
