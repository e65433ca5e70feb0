"""`manage.py demo`: a chat with users and rooms, served by Daphne until Ctrl-C."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management import BaseCommand, CommandError, call_command
from django.core.management.base import CommandParser

from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role

USERS = ("alice", "bob", "carol", "admin")
PASSWORD = "meet-me-in-the-lobby"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A room of the demo; `people` are those in it beside its owner, and `columns` the room's rules."""

    owner: str
    people: Mapping[str, Role] = field(default_factory=dict)
    columns: Mapping[str, Any]


PUBLIC, MEMBERS, PRIVATE = Room.Visibility.PUBLIC, Room.Visibility.MEMBERS, Room.Visibility.PRIVATE
ROOMS = {
    "lobby": Seed(owner="admin", people={"carol": Role.MODERATOR}, columns={"title": "Lobby", "visibility": PUBLIC}),
    "slow": Seed(
        owner="carol",
        columns={"title": "Slow lane", "visibility": PUBLIC, "slow_mode": 10, "message_rate": "30/m"},
    ),
    "book-club": Seed(
        owner="alice", people={"carol": Role.MEMBER}, columns={"title": "Book club", "visibility": MEMBERS}
    ),
    "den": Seed(
        owner="alice",
        people={"bob": Role.MEMBER},
        columns={"title": "Alice and Bob", "visibility": PRIVATE, "encrypted": True},
    ),
}


class Command(BaseCommand):
    help = (
        "Creates the database, demo users and rooms where missing, prints the logins and serves the chat on 127.0.0.1."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--no-serve", action="store_true", help="Only prepare the database.")

    def handle(self, *args: Any, port: int, no_serve: bool, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("The demo's passwords are public: it needs DJANGO_DEBUG=1.")
        call_command("migrate", verbosity=0)
        seed_users()
        seed_rooms()
        if not no_serve:
            self.serve(port)

    def serve(self, port: int) -> None:
        # The import installs Twisted's asyncio reactor, which nothing but serving needs.
        from daphne.cli import CommandLineInterface

        self.stdout.write(f"\n  Chat   http://127.0.0.1:{port}/\n  Admin  http://127.0.0.1:{port}/admin/\n\n")
        self.stdout.write(f"  Log in as {', '.join(USERS)}; everybody's password is {PASSWORD}\n")
        self.stdout.write("  Open two browsers, log in as two users, meet in the lobby; carol keeps order there.\n")
        self.stdout.write("  Alice and bob have an encrypted room of their own. Ctrl-C ends the demo.\n\n")
        self.stdout.flush()
        CommandLineInterface().run(["-b", "127.0.0.1", "-p", str(port), "config.asgi:application"])


def seed_users() -> None:
    """Add who is missing; whoever is there keeps password and sessions."""
    missing = set(USERS).difference(User.objects.values_list("username", flat=True))
    # One hash for all: it takes a second by design, and the password is public anyway.
    password = make_password(PASSWORD) if missing else ""
    for username in sorted(missing):
        is_admin = username == "admin"
        User.objects.create(username=username, password=password, is_staff=is_admin, is_superuser=is_admin)


def seed_rooms() -> None:
    """Add what is missing; a room that is there keeps its rules and its people."""
    users = {user.username: user for user in User.objects.filter(username__in=USERS)}
    for slug, seed in ROOMS.items():
        room, is_new = Room.objects.get_or_create(slug=slug, defaults={**seed.columns, "owner": users[seed.owner]})
        for username, role in seed.people.items() if is_new else ():
            Membership.objects.create(room=room, user=users[username], role=role)
