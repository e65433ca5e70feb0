"""`manage.py demo`: a chat with users and rooms, served by Daphne until Ctrl-C."""

from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.core.management import BaseCommand, CommandError, call_command
from django.core.management.base import CommandParser

from chat.models import Room

USERS = ("alice", "bob", "carol", "admin")
PASSWORD = "meet-me-in-the-lobby"
ROOMS = {"lobby": ("Lobby", False), "random": ("Random", False), "staff": ("Staff", True)}


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
        for slug, (title, staff_only) in ROOMS.items():
            Room.objects.get_or_create(slug=slug, defaults={"title": title, "staff_only": staff_only})
        seed_users()
        if not no_serve:
            self.serve(port)

    def serve(self, port: int) -> None:
        # The import installs Twisted's asyncio reactor, which nothing but serving needs.
        from daphne.cli import CommandLineInterface

        self.stdout.write(f"\n  Chat   http://127.0.0.1:{port}/\n  Admin  http://127.0.0.1:{port}/admin/\n\n")
        self.stdout.write(f"  Log in as {', '.join(USERS)}; everybody's password is {PASSWORD}\n")
        self.stdout.write("  Open two browsers, log in as two users, meet in the lobby. Ctrl-C ends the demo.\n\n")
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
