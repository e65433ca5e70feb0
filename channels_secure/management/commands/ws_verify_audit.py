"""Verify the audit trail."""

import json
import os
from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import router
from django.utils import timezone

from channels_secure.audit import heads
from channels_secure.audit.sealing import seals
from channels_secure.audit.verifying import Report, verify
from channels_secure.conf import get_settings
from channels_secure.management.output import listing
from channels_secure.management.selectors import read_heads
from channels_secure.models import AuditCheckpoint


class Command(BaseCommand):
    help = "Verify the audit trail: report the first row that was altered, is missing, was moved or forged, and exit 1."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--head",
            action="append",
            default=[],
            help="POSITION:HASH that was kept elsewhere (the log's audit.head), or @FILE that --save wrote.",
        )
        parser.add_argument("--save", metavar="FILE", help="Write head and checkpoints, signed, to keep elsewhere.")
        parser.add_argument("--all", action="store_true", help="Go on after the first fault.")
        parser.add_argument("--no-link", action="store_true", help="Only read: do not first link the rows that wait.")
        parser.add_argument("--json", action="store_true", help="One JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        report = verify(read_heads(options["head"]), link=not options["no_link"], everything=options["all"])
        if options["save"] and not report.faults:
            _save(Path(options["save"]), report)
        with listing(self.stdout):
            if options["json"]:
                self.stdout.write(json.dumps(_plain(report)))
            else:
                self._tell(report)
        if report.faults:
            count = len(report.faults)
            raise CommandError(f"{count} fault{'s' if count > 1 else ''}: the trail does not verify.", returncode=1)

    def _tell(self, report: Report) -> None:
        for fault in report.faults:
            self.stdout.write(self.style.ERROR(f"{fault.what}: {fault.message}."))
        for warning in report.warnings:
            self.stdout.write(self.style.WARNING(warning))
        for line in _lines(report):
            self.stdout.write(line)
        if not report.faults:
            self.stdout.write(self.style.SUCCESS("The trail verifies."))


def _lines(report: Report) -> Iterable[str]:
    yield f"rows: {report.rows} ({report.events} events), after row {report.start}"
    if get_settings().audit_key:
        *keyed, without = report.by_key
        yield f"by key, newest first: {', '.join(map(str, keyed))}; without a key: {without}"
    else:
        yield "without a key: whoever can change the database can change the trail"
    yield f"erased: {report.erased}"
    yield f"waiting to be linked: {report.waiting}"
    yield f"head: {report.head}"


def _plain(report: Report) -> dict[str, Any]:
    return {"verifies": not report.faults, **asdict(report), "head": str(report.head)}


def _save(file: Path, report: Report) -> None:
    """Write the file anew or not at all.

    Raises:
        CommandError: it cannot be written.
    """
    checkpoints = AuditCheckpoint.objects.using(router.db_for_write(AuditCheckpoint)).order_by("position")
    content = heads.dump(report.head, checkpoints, timezone.now(), seals(get_settings().audit_key)[0])
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(file)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}.") from error
