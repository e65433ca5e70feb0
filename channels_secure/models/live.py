"""The sockets that are open now, in whatever process."""

from typing import Self

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.models.fields import SHORT_LENGTH, TEXT_LENGTH


class LiveProcess(models.Model):
    """A server process that renews its lease while it lives; a killed one's rows count no more once it has run out."""

    id = models.CharField(max_length=SHORT_LENGTH, primary_key=True)
    host = models.CharField(_("host"), max_length=TEXT_LENGTH)
    pid = models.PositiveIntegerField(_("process"))
    started_at = models.DateTimeField(_("started at"), default=timezone.now)
    lease_until = models.DateTimeField(_("lease until"), db_index=True)

    class Meta:
        verbose_name = _("live process")
        verbose_name_plural = _("live processes")

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class LiveConnectionQuerySet(models.QuerySet["LiveConnection"]):
    def live(self) -> Self:
        """Those whose process lives."""
        return self.filter(process__lease_until__gt=Now())


class LiveConnection(models.Model):
    """An open socket, as its process last wrote it; rows lag by a second or two."""

    connection_id = models.CharField(_("connection"), max_length=SHORT_LENGTH, primary_key=True)
    process = models.ForeignKey(LiveProcess, on_delete=models.CASCADE, related_name="connections")
    # Without a constraint: rows are written while others work, and must never keep a project from deleting a user.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        db_constraint=False,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("user"),
    )
    username = models.CharField(_("username"), max_length=TEXT_LENGTH, blank=True)
    ip = models.CharField(_("address"), max_length=SHORT_LENGTH, blank=True, db_index=True)
    path = models.CharField(_("path"), max_length=TEXT_LENGTH, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=TEXT_LENGTH, blank=True)
    # The kind of credential, and the SHA-256 of the session key if it was a session's.
    credentials = models.CharField(_("credentials"), max_length=SHORT_LENGTH, blank=True)
    session = models.CharField(_("session"), max_length=SHORT_LENGTH, blank=True, db_index=True)
    opened_at = models.DateTimeField(_("opened at"))
    expires_at = models.DateTimeField(_("credentials expire at"), null=True, blank=True)
    heard_at = models.DateTimeField(_("last message"), null=True, blank=True)
    received = models.PositiveBigIntegerField(_("messages received"), default=0)
    violations = models.PositiveBigIntegerField(_("violations"), default=0)

    objects = LiveConnectionQuerySet.as_manager()

    class Meta:
        verbose_name = _("live connection")
        verbose_name_plural = _("live connections")
        ordering = ["-opened_at"]
        permissions = [("disconnect_connection", _("Can disconnect connections"))]

    def __str__(self) -> str:
        return self.connection_id
