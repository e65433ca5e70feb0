"""Describe the project's WebSockets as an AsyncAPI document."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandParser

from channels_secure.asyncapi.document import TITLE, VERSION
from channels_secure.asyncapi.project import as_json
from channels_secure.management.describing import DescribingCommand


class Command(DescribingCommand):
    help = "Write an AsyncAPI 3.0 document of the consumers that the ASGI application routes to."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # Django's own `--version` gives way: what has a version here is the API.
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--title", default=TITLE, help="What the API is called.")
        parser.add_argument("--version", default=VERSION, help="The version of the API.")
        parser.add_argument("--format", choices=["json"], default="json", help="JSON, which is YAML as well.")

    def describe(self, described: dict[str, Any]) -> str:
        return as_json(described)
