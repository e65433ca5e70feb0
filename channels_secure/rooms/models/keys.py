"""The keys of encrypted rooms, as far as a server may know them: public ones, and room keys that it cannot open."""

from base64 import urlsafe_b64decode
from hashlib import sha256

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.rooms.models.room import Room

KEY_LENGTH, FINGERPRINT_LENGTH, BOX_LENGTH = 87, 64, 123


def fingerprint_of(key: str) -> str:
    """The SHA-256 of a public key, in hexadecimal; members compare the first half of it."""
    return sha256(urlsafe_b64decode(f"{key}=")).hexdigest()


class PublicKey(models.Model):
    """The public half of the key that a user's browser has made; the private half never leaves that browser."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", verbose_name=_("user")
    )
    key = models.CharField(_("public key"), max_length=KEY_LENGTH)
    fingerprint = models.CharField(_("fingerprint"), max_length=FINGERPRINT_LENGTH)
    made_at = models.DateTimeField(_("made at"), default=timezone.now)

    class Meta:
        verbose_name = _("public key")
        verbose_name_plural = _("public keys")

    def __str__(self) -> str:
        return self.fingerprint


class Epoch(models.Model):
    """A time with one room key; another begins when a member leaves, joins or has another public key."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="+", verbose_name=_("room"))
    number = models.PositiveIntegerField(_("number"))
    # A copy, for whoever opens the room key later: the maker may leave, or get another key.
    maker = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("made by")
    )
    maker_name = models.CharField(_("made by"), max_length=255)
    maker_key = models.CharField(_("public key of the maker"), max_length=KEY_LENGTH)
    begun_at = models.DateTimeField(_("begun at"), default=timezone.now)

    class Meta:
        verbose_name = _("epoch")
        verbose_name_plural = _("epochs")
        constraints = [models.UniqueConstraint(fields=["room", "number"], name="cs_room_epoch")]

    def __str__(self) -> str:
        return str(self.number)


class WrappedKey(models.Model):
    """A room key that was encrypted for one public key, in the browser of the epoch's maker.

    It names no user: the rows must outlive one who is deleted, or nobody could see that the room key is out of date.
    """

    epoch = models.ForeignKey(Epoch, on_delete=models.CASCADE, related_name="boxes", verbose_name=_("epoch"))
    fingerprint = models.CharField(_("fingerprint"), max_length=FINGERPRINT_LENGTH)
    box = models.CharField(_("wrapped room key"), max_length=BOX_LENGTH)

    class Meta:
        verbose_name = _("wrapped room key")
        verbose_name_plural = _("wrapped room keys")
        constraints = [models.UniqueConstraint(fields=["epoch", "fingerprint"], name="cs_epoch_holder")]

    def __str__(self) -> str:
        return self.fingerprint
