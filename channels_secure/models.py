"""The tables: what happened, who is blocked, and one row that says whether the blocks have changed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.conf import get_settings
from channels_secure.policy.addresses import IPAddress, IPNetwork, network_for, refuse_dangerous
from channels_secure.signals import policy_changed

TEXT_LENGTH = 256
SHORT_LENGTH = 64


class AuditEvent(models.Model):
    """Something that happened, or `count` equal things between `created_at` and `last_at`.

    Every text is plain text with control characters made visible. A row that sums up several events carries the
    network of an IPv6 client instead of its address, and no connection.
    """

    class Kind(models.TextChoices):
        CONNECTION_ACCEPTED = "connection.accepted", _("connection accepted")
        CONNECTION_CLOSED = "connection.closed", _("connection closed")
        HANDSHAKE_DENIED = "handshake.denied", _("handshake denied")
        MESSAGE_DENIED = "message.denied", _("message denied")
        CREDENTIALS_REFRESHED = "credentials.refreshed", _("credentials refreshed")
        CREDENTIALS_FAILED = "credentials.failed", _("credentials failed")
        POLICY_WOULD_DENY = "policy.would_deny", _("policy would deny")
        TICKET_ISSUED = "ticket.issued", _("ticket issued")
        BLOCK_CREATED = "block.created", _("block created")
        BLOCK_LIFTED = "block.lifted", _("block lifted")
        CONNECTION_DISCONNECTED = "connection.disconnected", _("connection disconnected")
        TOKENS_REVOKED = "tokens.revoked", _("tokens revoked")
        ROOM_MODERATED = "room.moderated", _("room moderated")
        AUDIT_EXPORTED = "audit.exported", _("audit exported")
        AUDIT_PRUNED = "audit.pruned", _("audit pruned")
        AUDIT_ERASED = "audit.erased", _("audit erased")
        STORE_DEGRADED = "store.degraded", _("store degraded")
        STORE_RECOVERED = "store.recovered", _("store recovered")

    created_at = models.DateTimeField(_("time"), default=timezone.now)
    last_at = models.DateTimeField(_("last time"), default=timezone.now)
    count = models.PositiveBigIntegerField(_("count"), default=1)
    kind = models.CharField(_("kind"), max_length=SHORT_LENGTH, choices=Kind)
    reason = models.CharField(_("reason"), max_length=TEXT_LENGTH, blank=True)
    # The composite index below serves the foreign key too.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="+",
        verbose_name=_("user"),
    )
    username = models.CharField(_("username"), max_length=TEXT_LENGTH, blank=True)
    # Text, not an address type: a server may be told `<script>` by a proxy, and that is worth knowing.
    ip = models.CharField(_("address"), max_length=SHORT_LENGTH, blank=True)
    path = models.CharField(_("path"), max_length=TEXT_LENGTH, blank=True)
    origin = models.CharField(_("origin"), max_length=TEXT_LENGTH, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=TEXT_LENGTH, blank=True)
    connection_id = models.CharField(_("connection"), max_length=SHORT_LENGTH, blank=True, db_index=True)
    actor = models.CharField(_("actor"), max_length=TEXT_LENGTH, blank=True)
    detail = models.JSONField(_("detail"), default=dict, blank=True)

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["-created_at"], name="cs_audit_time"),
            models.Index(fields=["kind", "-created_at"], name="cs_audit_kind"),
            models.Index(fields=["ip", "-created_at"], name="cs_audit_ip"),
            models.Index(fields=["user", "-created_at"], name="cs_audit_user"),
            models.Index(fields=["username", "-created_at"], name="cs_audit_username"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reason}".strip()


class PolicyVersion(models.Model):
    """The one row that every commit that changes blocks changes too, so that looking at it is enough."""

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
    """A transaction that changes blocks; yields the name of its database.

    It takes the version row's lock before it looks at anything: changes are serial over all processes, none can wait
    for another in a circle, and whoever reads a version sees every change up to it.
    """
    using = using or router.db_for_write(Block)
    with transaction.atomic(using=using):
        PolicyVersion.bump(using)
        yield using


def checked_network(network: str | IPAddress | IPNetwork) -> str:
    """The network to store for what an operator wrote.

    Raises:
        ValueError: it is not a network, or blocking it would lock out everyone; the words are fit for a form.
    """
    policy = get_settings()
    parsed = network_for(str(network), policy.ipv6_prefix)
    refuse_dangerous(parsed, policy.proxies.networks)
    return str(parsed)


class BlockQuerySet(models.QuerySet["Block"]):
    def active(self) -> Self:
        """Those in force now: neither lifted nor expired."""
        lasting = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        return self.filter(lasting, lifted_at=None)


class Block(models.Model):
    """A user or a network that may not connect; kept as history once lifted or expired.

    Saving and deleting take effect in every process within a second. `QuerySet.update()`, `bulk_create()` and SQL are
    noticed at the next full reload. Only `channels_secure.blocklist` writes the audit trail.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("user"),
    )
    network = models.CharField(  # noqa: DJ001 - NULL says "no network" as it says "no user" in the constraint
        _("network"),
        max_length=SHORT_LENGTH,
        null=True,
        blank=True,
        help_text=_("An address or network: 192.0.2.1, 192.0.2.0/24, 2001:db8::/64"),
    )
    reason = models.CharField(_("reason"), max_length=TEXT_LENGTH, blank=True)
    automatic = models.BooleanField(_("automatic"), default=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("created by"),
    )
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    lifted_at = models.DateTimeField(_("lifted at"), null=True, blank=True)
    lifted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("lifted by"),
    )

    objects = BlockQuerySet.as_manager()

    class Meta:
        verbose_name = _("block")
        verbose_name_plural = _("blocks")
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["lifted_at", "expires_at"], name="cs_block_active"),
            models.Index(fields=["network"], name="cs_block_network"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(user__isnull=False, network__isnull=True)
                | models.Q(user__isnull=True, network__isnull=False),
                name="cs_block_one_subject",
                violation_error_message=_("Block either a user or a network."),
            ),
        ]

    def __str__(self) -> str:
        return self.subject

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the block and tell every process.

        Raises:
            ValueError: the network may not be blocked. One that became dangerous later can still be lifted.
        """
        self.network = self.network or None
        if self.network and self.lifted_at is None:
            self.network = checked_network(self.network)
        with policy_change(kwargs.get("using") or router.db_for_write(Block, instance=self)):
            super().save(*args, **kwargs)

    def clean(self) -> None:
        self.network = self.network or None
        if self.network and self.lifted_at is None:
            try:
                self.network = checked_network(self.network)
            except ValueError as error:
                raise ValidationError({"network": str(error)}) from error

    @property
    def subject(self) -> str:
        return self.network or (self.user.get_username() if self.user else "")

    @property
    def is_active(self) -> bool:
        return self.lifted_at is None and (self.expires_at is None or self.expires_at > timezone.now())
