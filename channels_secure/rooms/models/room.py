"""A room and its rules."""

import unicodedata
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.policy.rates import Rate
from channels_secure.rooms.changes import changing, tell_room
from channels_secure.rooms.roles import Role

SLUG_LENGTH, TITLE_LENGTH = 80, 120
LONGEST_SLOW_MODE = 6 * 3600
INSIDE = (Role.OWNER, Role.MODERATOR, Role.MEMBER)


def check_rate(text: str) -> None:
    """Refuse in a form what is no rate.

    Raises:
        ValidationError: the text is no rate.
    """
    try:
        Rate.parse(text)
    except ValueError as error:
        raise ValidationError(_("Write amount/[n]unit with units s, m, h, d: 20/s or 30/10s.")) from error


class RoomQuerySet(models.QuerySet["Room"]):
    def visible_to(self, user: Any) -> Self:
        """The rooms that a user may know of: all but the private ones of others, and those they are banned from."""
        pk = getattr(user, "pk", None)
        if pk is None:
            return self.filter(visibility=Room.Visibility.PUBLIC)
        rooms = Room._base_manager
        own = rooms.filter(memberships__user=pk, memberships__banned=False, memberships__role__in=INSIDE)
        banned = rooms.filter(memberships__user=pk, memberships__banned=True)
        shown = ~models.Q(visibility=Room.Visibility.PRIVATE) | models.Q(pk__in=own.values("pk"))
        return self.filter(models.Q(owner=pk) | (shown & ~models.Q(pk__in=banned.values("pk"))))


class Room(models.Model):
    """A place to talk.

    Saving and deleting take effect on the open sockets of every process within a second; `QuerySet.update()`,
    `bulk_create()` and SQL at the next re-validation. `owner` alone says who owns it: saving another one hands the room
    over.
    """

    class Visibility(models.TextChoices):
        PUBLIC = "public", _("public: everybody enters")
        MEMBERS = "members", _("members: everybody sees it and may join, members enter")
        PRIVATE = "private", _("private: whoever was added sees it and enters")

    slug = models.SlugField(_("name in addresses"), max_length=SLUG_LENGTH, unique=True, allow_unicode=True)
    title = models.CharField(_("title"), max_length=TITLE_LENGTH)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("owner"),
    )
    visibility = models.CharField(_("visibility"), max_length=16, choices=Visibility, default=Visibility.MEMBERS)
    message_rate = models.CharField(
        _("message rate"),
        max_length=24,
        blank=True,
        validators=[check_rate],
        help_text=_("How much all together may say here, for example 30/10s; empty is without a limit."),
    )
    slow_mode = models.PositiveIntegerField(
        _("slow mode"),
        default=0,
        validators=[MaxValueValidator(LONGEST_SLOW_MODE)],
        help_text=_("Seconds that members and guests wait between two messages of their own; 0 is off."),
    )
    encrypted = models.BooleanField(
        _("encrypted"), default=False, help_text=_("Only sealed messages are passed on, which the server cannot read.")
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    objects = RoomQuerySet.as_manager()

    class Meta:
        verbose_name = _("room")
        verbose_name_plural = _("rooms")
        ordering = ["title", "id"]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the room, bring its owner's membership into line, and tell every process.

        Raises:
            ValueError: the rate is none.
        """
        _ = self.rate
        self.clean()
        is_new, fields = self._state.adding, kwargs.get("update_fields")
        with changing(self) as policy:
            super().save(*args, **kwargs)
            if fields is None or "owner" in fields or "owner_id" in fields:
                self._place_owner()
            if not is_new:
                tell_room(self.group, using=policy)

    @property
    def group(self) -> str:
        """The group of everybody in the room."""
        return f"channels_secure.room.{self.pk}"

    @property
    def rate(self) -> Rate | None:
        """How much all together may say here.

        Raises:
            ValueError: SQL made it what is no rate.
        """
        return Rate.parse(self.message_rate) if self.message_rate else None

    def clean(self) -> None:
        self.slug = unicodedata.normalize("NFC", self.slug)

    def _place_owner(self) -> None:
        rows = self.memberships.using(self._state.db)
        owners = rows.filter(role=Role.OWNER)
        if self.owner_id is None:
            owners.update(role=Role.MODERATOR)
            return
        owners.exclude(user_id=self.owner_id).update(role=Role.MODERATOR)
        facts = {"role": Role.OWNER, "banned": False, "muted_until": None}
        if not rows.filter(user_id=self.owner_id).update(**facts):
            rows.bulk_create([rows.model(room=self, user_id=self.owner_id, **facts)])
