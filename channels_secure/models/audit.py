"""What happened."""

import itertools
import os
from secrets import token_hex

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.models.fields import SHORT_LENGTH, TEXT_LENGTH

DIGEST_LENGTH = 64
SALT_LENGTH = 32
MANY = 256


class _Names:
    """Names for events, of this process alone: those of one time have a beginning in common, for an index's sake.

    Nobody can guess them. Whoever could write a row with the name of an event that is yet to come would keep it out of
    the table: what is there already is not stored twice.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._process = token_hex(8)
        self._numbers = itertools.count(1)
        self.free: list[str] = []

    def make(self) -> str:
        """Make as many as cost an event nothing, and return one of them."""
        beginning, endings = f"{self._process}-{next(self._numbers):x}-", token_hex(8 * MANY)
        made = [beginning + endings[start : start + 16] for start in range(0, len(endings), 16)]
        name, self.free = made.pop(), made
        return name


_names = _Names()
# A child process that went on counting would give its parent's names again.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_names.renew)


def new_uid() -> str:
    """A name that no other event has, in this process or any other."""
    try:
        return _names.free.pop()
    except IndexError:
        return _names.make()


class AuditEvent(models.Model):
    """Something that happened, or `count` equal things between `created_at` and `last_at`.

    Every text is plain text with control characters made visible. A row that sums up several events carries the
    network of an IPv6 client instead of its address, and no connection.

    `position` and `hash` link a row to its predecessor, `commitment` and `actor_commitment` stand in the chain for the
    personal fields, which can be erased together with their salts; `channels_secure.audit.sealing` has the formulas.
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
        AUDIT_RECOVERED = "audit.recovered", _("audit recovered")
        STORE_DEGRADED = "store.degraded", _("store degraded")
        STORE_RECOVERED = "store.recovered", _("store recovered")

    created_at = models.DateTimeField(_("time"), default=timezone.now)
    last_at = models.DateTimeField(_("last time"), default=timezone.now)
    count = models.PositiveBigIntegerField(_("count"), default=1)
    kind = models.CharField(_("kind"), max_length=SHORT_LENGTH, choices=Kind)
    reason = models.CharField(_("reason"), max_length=TEXT_LENGTH, blank=True)
    # The composite index below serves the foreign key too. No constraint: an event of a user who is being deleted would
    # make the project's own transaction fail at its end.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_constraint=False,
        db_index=False,
        related_name="+",
        verbose_name=_("user"),
    )
    # The user's primary key, which stays when the user is deleted.
    user_key = models.CharField(_("user key"), max_length=SHORT_LENGTH, blank=True)
    username = models.CharField(_("username"), max_length=TEXT_LENGTH, blank=True)
    # Text, not an address type: a server may be told `<script>` by a proxy, and that is worth knowing.
    ip = models.CharField(_("address"), max_length=SHORT_LENGTH, blank=True)
    path = models.CharField(_("path"), max_length=TEXT_LENGTH, blank=True)
    origin = models.CharField(_("origin"), max_length=TEXT_LENGTH, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=TEXT_LENGTH, blank=True)
    connection_id = models.CharField(_("connection"), max_length=SHORT_LENGTH, blank=True)
    actor = models.CharField(_("actor"), max_length=TEXT_LENGTH, blank=True)
    # Where the actor was: an operator's address, or the account and machine of a command.
    actor_from = models.CharField(_("acted from"), max_length=TEXT_LENGTH, blank=True)
    detail = models.JSONField(_("detail"), default=dict, blank=True)

    # Evidence ---------------------------------------------------------------------------------------------------------
    uid = models.CharField(_("name"), max_length=SHORT_LENGTH, default=new_uid, editable=False)
    # A sum whose minute is not over: its count may still grow, and it is not linked yet.
    is_open = models.BooleanField(default=False, editable=False)
    position = models.PositiveBigIntegerField(_("position"), null=True, unique=True, editable=False)
    hash = models.CharField(_("hash"), max_length=DIGEST_LENGTH, blank=True, editable=False)
    salt = models.CharField(max_length=SALT_LENGTH, blank=True, editable=False)
    commitment = models.CharField(max_length=DIGEST_LENGTH, blank=True, editable=False)
    actor_salt = models.CharField(max_length=SALT_LENGTH, blank=True, editable=False)
    actor_commitment = models.CharField(max_length=DIGEST_LENGTH, blank=True, editable=False)

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        ordering = ["-created_at", "-id"]
        permissions = [
            ("export_audit", _("Can export the audit trail")),
            ("view_dashboard", _("Can view the dashboard")),
        ]
        # `unique=True` would give PostgreSQL a second index, for LIKE.
        constraints = [models.UniqueConstraint(fields=["uid"], name="cs_audit_uid")]
        # Each serves its question and the order of the answer, so that the newest are found without sorting any.
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="cs_audit_time"),
            models.Index(fields=["kind", "-created_at", "-id"], name="cs_audit_kind"),
            models.Index(fields=["reason", "-created_at", "-id"], name="cs_audit_reason"),
            models.Index(fields=["kind", "reason", "-created_at", "-id"], name="cs_audit_kind_reason"),
            models.Index(fields=["ip", "-created_at", "-id"], name="cs_audit_ip"),
            models.Index(fields=["user", "-created_at", "-id"], name="cs_audit_user"),
            models.Index(fields=["username", "-created_at", "-id"], name="cs_audit_username"),
            # Also for the beginning of an id; other databases than PostgreSQL know no such classes and need none.
            models.Index(fields=["connection_id"], name="cs_audit_connection", opclasses=["varchar_pattern_ops"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reason}".strip()
