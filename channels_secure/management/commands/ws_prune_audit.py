"""Prune the audit trail."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from channels_secure.audit.pruning import Pruned, PruningRefused, prune
from channels_secure.conf import get_settings
from channels_secure.management.operators import OperatorCommand
from channels_secure.management.selectors import read_heads


class Command(OperatorCommand):
    help = "Delete the rows of the audit trail that are older than AUDIT_RETENTION_DAYS; what remains still verifies."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, help="Instead of AUDIT_RETENTION_DAYS.")
        parser.add_argument("--dry-run", action="store_true", help="Only say how many rows would go.")
        parser.add_argument("--force", action="store_true", help="Also delete rows that do not verify.")
        parser.add_argument(
            "--head", action="append", default=[], help="As of ws_verify_audit; the whole trail is verified first."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        days = get_settings().audit_retention_days if options["days"] is None else options["days"]
        if days is None:
            self.stdout.write("AUDIT_RETENTION_DAYS is None: rows are kept for ever.")
            return
        if days < 1:
            raise CommandError("--days must be at least 1.")
        heads = read_heads(options["head"])
        try:
            pruned = prune(
                days, actor="ws_prune_audit", heads=heads, dry_run=options["dry_run"], force=options["force"]
            )
        except OverflowError as error:
            raise CommandError(f"There is no day {days} days ago.") from error
        except PruningRefused as error:
            raise CommandError(f"Not pruned: {error}. Run ws_verify_audit.", returncode=1) from error
        self._tell(pruned, "would go" if options["dry_run"] else "are gone")

    def _tell(self, pruned: Pruned, went: str) -> None:
        self.stdout.write(self.style.SUCCESS(f"{pruned.rows} rows ({pruned.events} events) {went}."))
        if pruned.rollups:
            self.stdout.write(f"{pruned.rollups} rollups {went}.")
        stop = pruned.stopped_by
        if stop is not None and pruned.held_back:
            self.stdout.write(
                f"{pruned.held_back} rows that are older stand behind row {stop.position} (id {stop.id}),"
                f" which is of {stop.last_at.isoformat(timespec='seconds')}; they go when it does."
            )
