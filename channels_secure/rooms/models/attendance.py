"""Which socket is in which room."""

from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import DateTimeField, DurationField, Exists, ExpressionWrapper, OuterRef, Q, Value
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from channels_secure.models import SHORT_LENGTH, TEXT_LENGTH, LiveConnection
from channels_secure.rooms.models.room import Room

# Seconds for which an entry needs no live connection: the table of these lags by a second or two.
FRESH = 10.0


def _ago(seconds: float) -> Any:
    """The database's time so many seconds ago: the only clock by which processes judge each other."""
    delta = Value(timedelta(seconds=seconds), output_field=DurationField())
    return ExpressionWrapper(Now() - delta, output_field=DateTimeField())


class AttendanceQuerySet(models.QuerySet["Attendance"]):
    def live(self) -> Self:
        """Those whose socket is open as far as anybody knows: its process renews its lease."""
        return self.filter(self._is_open() | Q(entered_at__gt=_ago(FRESH)))

    def stale(self) -> Self:
        """Those that a process has left behind when it died."""
        return self.filter(~self._is_open(), entered_at__lte=_ago(2 * FRESH))

    @staticmethod
    def _is_open() -> Exists:
        return Exists(LiveConnection.objects.live().filter(pk=OuterRef("connection_id")))


class Attendance(models.Model):
    """A socket in a room. It counts for as long as the socket is in the table of live connections.

    So presence ends with the lease of a killed process, whatever that process could not clean up.
    """

    connection_id = models.CharField(_("connection"), max_length=SHORT_LENGTH, primary_key=True)
    # Neither constraints nor cascades: rows are written while others work, and a project that deletes users must never
    # wait for them. Whose user or room has gone ends with its socket.
    room = models.ForeignKey(Room, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        blank=True,
        related_name="+",
    )
    username = models.CharField(_("username"), max_length=TEXT_LENGTH, blank=True)
    entered_at = models.DateTimeField(_("entered at"), db_default=Now())

    objects = AttendanceQuerySet.as_manager()

    class Meta:
        verbose_name = _("attendance")
        verbose_name_plural = _("attendances")

    def __str__(self) -> str:
        return self.connection_id
