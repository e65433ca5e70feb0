"""Single-use tickets, where no shared store keeps them."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from channels_secure.models.fields import SHORT_LENGTH


class Ticket(models.Model):
    """A ticket that nobody has redeemed yet; redeeming deletes the row, and of racing deletions exactly one counts it.

    Only the SHA-256 of a ticket is stored, so that whoever reads the table cannot connect. `content` is the JSON that
    `channels_secure.auth.tickets` writes: whose it is, and what binds and ends it.
    """

    digest = models.CharField(_("digest"), max_length=SHORT_LENGTH, primary_key=True)
    content = models.TextField(_("content"))
    expires_at = models.DateTimeField(_("expires at"), db_index=True)

    class Meta:
        verbose_name = _("ticket")
        verbose_name_plural = _("tickets")

    def __str__(self) -> str:
        return f"ticket until {self.expires_at:%Y-%m-%d %H:%M:%S}"
