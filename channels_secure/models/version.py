"""One row that says whether blocks or revocations have changed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import models, router, transaction

from channels_secure.signals import policy_changed


class PolicyVersion(models.Model):
    """The one row that every commit of blocks or revocations changes too, so that looking at it is enough."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    version = models.BigIntegerField()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="cs_one_policy_version")]

    def __str__(self) -> str:
        return str(self.version)

    @classmethod
    def current(cls, using: str) -> int:
        return cls.objects.using(using).filter(pk=1).values_list("version", flat=True).first() or 0

    @classmethod
    def bump(cls, using: str) -> None:
        """Count one more change; only inside a transaction, whose end frees the row for the next."""
        row = cls.objects.using(using).filter(pk=1)
        if not row.update(version=models.F("version") + 1):
            # From the clock, so that a table that was emptied does not repeat versions that processes still remember.
            first = PolicyVersion(pk=1, version=time.time_ns() // 1000)
            PolicyVersion.objects.using(using).bulk_create([first], ignore_conflicts=True)
            row.update(version=models.F("version") + 1)
        transaction.on_commit(_announce_policy_change, using=using, robust=True)


def _announce_policy_change() -> None:
    policy_changed.send_robust(PolicyVersion)


@contextmanager
def policy_change(using: str | None = None) -> Iterator[str]:
    """A transaction that changes blocks or revocations; yields the name of its database.

    It takes the version row's lock before it looks at anything: changes are serial over all processes, none can wait
    for another in a circle, and whoever reads a version sees every change up to it.
    """
    using = using or router.db_for_write(PolicyVersion)
    with transaction.atomic(using=using):
        PolicyVersion.bump(using)
        yield using
