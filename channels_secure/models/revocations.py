"""Whose right to be connected has ended, or is to be looked at again."""

from typing import Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.models.fields import SHORT_LENGTH, TEXT_LENGTH

# The `reason` of a row that ends nothing by itself: the sockets' rights are looked up again now.
RECHECK = "recheck"


class RevocationQuerySet(models.QuerySet["Revocation"]):
    def active(self) -> Self:
        """Those that processes still have to know of."""
        return self.filter(expires_at__gt=timezone.now())


class Revocation(models.Model):
    """A change that every process applies to its open sockets, and to handshakes for as long as it lasts.

    Rows are made by `channels_secure.revocation` and `channels_secure.connections.disconnect()`, never changed, and
    deleted once they have expired. `subject` is a user's primary key, the SHA-256 of a session key, a
    token's `jti`, a connection's id, a network, or the name of a group.
    """

    class Kind(models.TextChoices):
        USER = "user", _("user")
        SESSION = "session", _("session")
        JTI = "jti", _("token")
        CONNECTION = "connection", _("connection")
        ADDRESS = "address", _("address")
        GROUP = "group", _("group")

    kind = models.CharField(_("kind"), max_length=SHORT_LENGTH, choices=Kind)
    subject = models.CharField(_("subject"), max_length=TEXT_LENGTH)
    # The reason that sockets are closed with, or "recheck". `credentials_revoked` also refuses handshakes.
    reason = models.CharField(_("reason"), max_length=SHORT_LENGTH)
    # Sockets opened, and tokens issued, up to this moment are concerned.
    not_before = models.DateTimeField(_("not before"), default=timezone.now)
    actor = models.CharField(_("actor"), max_length=TEXT_LENGTH, blank=True)
    expires_at = models.DateTimeField(_("expires at"), db_index=True)

    objects = RevocationQuerySet.as_manager()

    class Meta:
        verbose_name = _("revocation")
        verbose_name_plural = _("revocations")
        ordering = ["-not_before", "-id"]
        indexes = [models.Index(fields=["kind", "subject"], name="cs_revocation_subject")]

    def __str__(self) -> str:
        return f"{self.kind} {self.reason}"
