"""Write the audit trail to a file, or to the standard output."""

import os
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

from django.conf import settings
from django.core.management.base import CommandError
from django.db import router
from django.db.models import QuerySet
from django.utils import timezone

from channels_secure.audit import exporting, finding
from channels_secure.audit.formats import Format
from channels_secure.management.operators import OperatorCommand
from channels_secure.management.output import drop
from channels_secure.management.selectors import seconds_of
from channels_secure.models import AuditEvent

FILTERS = ("since", "until", "kind", "reason", "user", "ip", "connection")
STANDARD_OUTPUT = "-"


class Command(OperatorCommand):
    help = "Export the audit trail as CSV or NDJSON; the export is written down in the trail itself."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", choices=[shape.value for shape in Format], default=Format.NDJSON.value)
        parser.add_argument("--since", help="Not before: 2026-11-21, 2026-11-21T09:00:00Z, or 24h, 7d ago.")
        parser.add_argument("--until", help="Before: the same.")
        parser.add_argument("--kind", choices=AuditEvent.Kind.values, metavar="KIND", help="As handshake.denied.")
        parser.add_argument("--reason", help="Exactly this one.")
        parser.add_argument("--user", help="A username, or the primary key of a user, also of one who is gone.")
        parser.add_argument("--ip", help="An address.")
        parser.add_argument("--connection", help="A connection's id, or how it begins: three characters at least.")
        parser.add_argument("--output", default=STANDARD_OUTPUT, help="A file that nobody else may read; -: stdout.")
        parser.add_argument("--force", action="store_true", help="Replace the file if there is one.")

    def handle(self, *args: Any, **options: Any) -> None:
        target, shape = options["output"], Format(options["format"])
        asked = {name: options[name] for name in FILTERS if options[name]}
        rows = _chosen(**asked)
        if target == STANDARD_OUTPUT:
            exporting.catch_up()
            begun = exporting.begin(rows, shape, filters=asked, actor="ws_export_audit")
            try:
                self._write(begun)
            except BrokenPipeError as error:
                raise CommandError("Who was reading has left: the export is not whole.", returncode=1) from error
            return
        with _file(Path(target), replace=options["force"]) as file:
            exporting.catch_up()
            # The target too: who asks later where a copy went is told.
            begun = exporting.begin(rows, shape, filters={**asked, "output": target}, actor="ws_export_audit")
            file.writelines(begun)
        self.stdout.write(self.style.SUCCESS(f"Exported {begun.rows} row{'' if begun.rows == 1 else 's'}."))

    def _write(self, pieces: exporting.Export) -> None:
        # As bytes where that can be: a terminal's own encoding, or its line ends, would change the file.
        out = getattr(self.stdout._out, "buffer", None)
        if out is None:
            for piece in pieces:
                self.stdout.write(piece.decode(), ending="")
            return
        try:
            out.writelines(pieces)
            out.flush()
        except BrokenPipeError:
            drop(out)
            raise


def _chosen(
    *,
    since: str = "",
    until: str = "",
    kind: str = "",
    reason: str = "",
    user: str = "",
    ip: str = "",
    connection: str = "",
) -> QuerySet[AuditEvent]:
    rows = AuditEvent.objects.using(router.db_for_read(AuditEvent))
    exact = {"kind": kind, "reason": reason, "created_at__gte": _moment(since), "created_at__lt": _moment(until)}
    rows = rows.filter(**{name: value for name, value in exact.items() if value})
    rows = finding.by_user(rows, user) if user else rows
    rows = finding.by_address(rows, ip) if ip else rows
    return finding.by_connection(rows, connection) if connection else rows


def _moment(text: str) -> datetime | None:
    """A date, a date with a time, or how long ago; without an offset it is the project's time zone."""
    if not text:
        return None
    try:
        if text[0].isdigit() and text[-1] in "smhd":
            return timezone.now() - timedelta(seconds=seconds_of(text) or 0)
        found = datetime.fromisoformat(text)
        if settings.USE_TZ:
            # In UTC, as databases are asked: what has no such time is found out here.
            return (found if timezone.is_aware(found) else timezone.make_aware(found)).astimezone(UTC)
        return found if timezone.is_naive(found) else timezone.make_naive(found)
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{text!r} is not a time: write 2026-11-21, 2026-11-21T09:00:00Z, or 24h.") from error


@contextmanager
def _file(target: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """A new file with mode 0600; one that is to be replaced stays until the new one is whole."""
    if target.exists() and not (replace and target.is_file()):
        raise CommandError(f"There is {str(target)!r} already.")
    place = target.with_name(f".{target.name}.{token_hex(8)}") if replace else target
    try:
        # O_EXCL: neither an existing file nor what a link points to is ever opened.
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    except OSError as error:
        raise CommandError(f"{str(target)!r} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        if replace:
            place.replace(target)
    except BaseException:
        place.unlink(missing_ok=True)
        raise
