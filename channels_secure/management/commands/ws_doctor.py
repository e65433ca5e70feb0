"""Say what is wrong with the deployment as it runs."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from channels_secure.management.doctor import examine


class Command(BaseCommand):
    help = "Find what `check` cannot: it asks the database, the store, the channel layers and the processes that run."
    # It is to say something also where nothing else works.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        count = 0
        for finding in examine():
            count += 1
            self.stdout.write(self.style.ERROR(finding.message))
            self.stdout.write(f"    {finding.advice}")
        if count:
            raise CommandError(f"{count} finding{'s' if count > 1 else ''}.", returncode=1)
        self.stdout.write(self.style.SUCCESS("Nothing is wrong that could be seen from here."))
