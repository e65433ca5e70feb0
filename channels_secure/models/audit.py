"""What happened."""

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.models.fields import SHORT_LENGTH, TEXT_LENGTH


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
