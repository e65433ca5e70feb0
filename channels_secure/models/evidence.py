"""What makes the audit trail evidence: the head of its chain, where it was pruned, and how much there was of what."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.models.audit import DIGEST_LENGTH
from channels_secure.models.fields import SHORT_LENGTH, TEXT_LENGTH


class AuditHead(models.Model):
    """The one row that says where the chain ends; whoever links rows holds its lock."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    position = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=DIGEST_LENGTH)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="cs_one_audit_head")]

    def __str__(self) -> str:
        return f"{self.position}:{self.hash}"


class AuditCheckpoint(models.Model):
    """Up to which row the trail was pruned, signed, so that what remains still verifies.

    `rows` and `events` are what one run of pruning has deleted.
    """

    position = models.PositiveBigIntegerField(_("position"), unique=True)
    hash = models.CharField(_("hash"), max_length=DIGEST_LENGTH)
    rows = models.PositiveBigIntegerField(_("rows"))
    events = models.PositiveBigIntegerField(_("events"))
    last_at = models.DateTimeField(_("last time"))
    created_at = models.DateTimeField(_("pruned at"), default=timezone.now)
    actor = models.CharField(_("actor"), max_length=TEXT_LENGTH, blank=True)
    signature = models.CharField(_("signature"), max_length=DIGEST_LENGTH)

    class Meta:
        verbose_name = _("audit checkpoint")
        verbose_name_plural = _("audit checkpoints")
        ordering = ["-position"]

    def __str__(self) -> str:
        return f"{self.position}:{self.hash}"


class AuditRollup(models.Model):
    """How many events of one kind and reason one hour had, in how many rows, for charts that must not scan.

    Kept by whoever links the rows, in the same transaction, so that its sums are those of the linked rows. A reason
    that is not one of the package's own counts as an empty one.
    """

    hour = models.DateTimeField(_("hour"))
    kind = models.CharField(_("kind"), max_length=SHORT_LENGTH)
    reason = models.CharField(_("reason"), max_length=SHORT_LENGTH, blank=True)
    events = models.PositiveBigIntegerField(_("events"), default=0)
    rows = models.PositiveBigIntegerField(_("rows"), default=0)

    class Meta:
        verbose_name = _("audit rollup")
        verbose_name_plural = _("audit rollups")
        ordering = ["-hour", "kind", "reason"]
        constraints = [models.UniqueConstraint(fields=["hour", "kind", "reason"], name="cs_one_audit_rollup")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%dT%H} {self.kind} {self.reason}".strip()
