"""What somebody is in a room, and what was decided about them there."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.policy.decisions import Reason
from channels_secure.rooms.changes import changing, end_sockets, place_of, tell_user
from channels_secure.rooms.models.room import Room
from channels_secure.rooms.roles import ROLE_NAMES, Role


class Membership(models.Model):
    """One user in one room; a guest has a row only while there is something to remember of them.

    Saving and deleting take effect on the user's open sockets in every process within a second; `QuerySet.update()`,
    `bulk_create()` and SQL at the next re-validation. Only `channels_secure.rooms.moderation`, `.membership` and the
    admin write the audit trail.
    """

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="memberships", verbose_name=_("room"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", verbose_name=_("user")
    )
    role = models.CharField(_("role"), max_length=16, choices=ROLE_NAMES, default=Role.MEMBER.value)
    muted_until = models.DateTimeField(_("muted until"), null=True, blank=True)
    banned = models.BooleanField(_("banned"), default=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        ordering = ["room", "user"]
        constraints = [
            models.UniqueConstraint(fields=["room", "user"], name="cs_room_member"),
            models.UniqueConstraint(
                fields=["room"], condition=models.Q(role=Role.OWNER.value), name="cs_room_one_owner"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.role}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the membership and have the user's sockets looked at again in every process.

        Raises:
            ValueError: it takes the room from its owner, or gives it to somebody else: save the room's `owner` instead.
        """
        with changing(self) as policy:
            self._check_owner(kwargs.get("using"))
            super().save(*args, **kwargs)
            tell_user(self.user_id, using=policy)
            if self.banned:
                end_sockets(place_of(self.room.group, self.user_id), Reason.PERMISSION_DENIED, using=policy)

    def clean(self) -> None:
        try:
            self._check_owner(None)
        except ValueError as error:
            raise ValidationError(str(error)) from error

    def _check_owner(self, using: str | None) -> None:
        rooms = Room._base_manager.using(using or self._state.db)
        owner = rooms.filter(pk=self.room_id).values_list("owner_id", flat=True).first()
        owns = owner is not None and owner == self.user_id
        if owns != (self.role == Role.OWNER):
            raise ValueError(_("The room's owner is set on the room itself."))
        if owns and (self.banned or self.muted_until is not None):
            raise ValueError(_("The owner of a room is neither muted nor banned."))

    @property
    def is_muted(self) -> bool:
        return self.muted_until is not None and self.muted_until > timezone.now()
