"""What the commands have in common: whom they are about."""

import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from getpass import getpass
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.management.base import CommandError

from channels_secure.audit.heads import Head, load
from channels_secure.audit.sealing import seals
from channels_secure.conf import get_settings

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,10})([smhd]?)", re.ASCII)


def add_selectors(parser: ArgumentParser) -> None:
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--user", help="A username, or the primary key of a user.")
    subject.add_argument("--network", help="An address or network: 192.0.2.1, 192.0.2.0/24, 2001:db8::/64.")
    parser.add_argument("--reason", default="", help="Why; for the audit trail.")


def find_user(text: str) -> Any:
    """The user with this username, else with this primary key.

    Raises:
        CommandError: there is none.
    """
    users = get_user_model()._base_manager
    for name in (get_user_model().USERNAME_FIELD, "pk"):
        try:
            return users.get(**{name: text})
        except (ObjectDoesNotExist, ValidationError, ValueError, OverflowError):
            continue
    raise CommandError(f"There is no user {text!r}.")


def read_secret(given: str, prompt: str) -> str:
    """What was given, or with ``-`` a line of standard input: arguments are seen by all users of a machine."""
    if given != "-":
        return given
    return (getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()).strip()


def seconds_of(text: str) -> float | None:
    """The seconds of ``"90"``, ``"15m"``, ``"1h"``, ``"7d"``; None for ``"forever"``.

    Raises:
        CommandError: it is none of these.
    """
    if text == "forever":
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        raise CommandError(f"{text!r} is not a duration: write seconds, or 15m, 1h, 7d, or forever.")
    return float(match[1]) * UNITS[match[2] or "s"]


def read_heads(texts: Sequence[str]) -> list[Head]:
    """The heads of the audit trail in ``POSITION:HASH`` or in ``@FILE``, as `ws_verify_audit --save` wrote it.

    Raises:
        CommandError: one of them is none, or its file cannot be read or was altered.
    """
    keys = get_settings().audit_key
    try:
        return [
            load(Path(text[1:]).read_bytes(), seals(keys)) if text.startswith("@") else Head.parse(text)
            for text in texts
        ]
    except (ValueError, OSError) as error:
        raise CommandError(f"{error}.") from error
