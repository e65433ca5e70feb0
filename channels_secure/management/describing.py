"""What the commands that describe the wire have in common: what is described, and where it goes."""

from abc import abstractmethod
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from channels_secure.asyncapi import Undescribable
from channels_secure.asyncapi.document import TITLE, VERSION, document
from channels_secure.asyncapi.project import application, choose
from channels_secure.asyncapi.routes import Route, label, routes_of
from channels_secure.consumers.consumer import SecureJsonConsumer
from channels_secure.consumers.handlers import BadDeclaration
from channels_secure.management.output import listing


class DescribingCommand(BaseCommand):
    """A command that writes, or compares with a file, what `describe` makes of an AsyncAPI document."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--consumer",
            action="append",
            default=[],
            metavar="PATH",
            help="Only this consumer class, by its dotted path; may be given several times.",
        )
        place = parser.add_mutually_exclusive_group()
        place.add_argument("--output", metavar="FILE", help="Write to this file instead of the standard output.")
        place.add_argument("--check", metavar="FILE", help="Write nothing; exit with 1 unless this file is up to date.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            routes = self._routes(options["consumer"])
            described = document(routes, title=options.get("title") or TITLE, version=options.get("version") or VERSION)
        except (Undescribable, BadDeclaration) as error:
            raise CommandError(f"{error}.") from error
        text = self.describe(described).encode("utf-8", "backslashreplace").decode()
        if options["check"] is not None:
            self._compare(options["check"], text)
        elif options["output"] is not None:
            _write(options["output"], text)
        else:
            with listing(self.stdout):
                self.stdout.write(text, ending="")

    @abstractmethod
    def describe(self, described: dict[str, Any]) -> str:
        """The document in the language of the command."""

    def _routes(self, paths: list[str]) -> list[Route]:
        if paths:
            return choose(routes_of(application(may_lack=True)), paths)
        routes = routes_of(application())
        for route in routes:
            if not route.guarded:
                self._warn(f"{label(route.consumer)} at {route.address} is left out: {_fault(route.consumer)}.")
        guarded = [route for route in routes if route.guarded]
        if not guarded:
            self._warn("no consumer behind SecureMiddlewareStack was found, so nothing is described.")
        return guarded

    def _warn(self, text: str) -> None:
        self.stderr.write(self.style.WARNING(f"Warning: {text}"))

    def _compare(self, path: str, text: str) -> None:
        try:
            kept = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {error}.") from error
        if kept != text:
            raise CommandError(f"{path} is out of date: write it anew with --output {path}, and the same options.")


def _fault(consumer: type) -> str:
    refuses = issubclass(consumer, SecureJsonConsumer)
    return f"it is outside SecureMiddlewareStack and {'refuses every connection' if refuses else 'not guarded'}"


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error}.") from error
