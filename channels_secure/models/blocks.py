"""Who may not connect."""

from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_secure.conf import get_settings
from channels_secure.models.fields import SHORT_LENGTH, TEXT_LENGTH
from channels_secure.models.version import policy_change
from channels_secure.models.words import in_words
from channels_secure.policy.addresses import IPAddress, IPNetwork, network_for, refuse_dangerous


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
        permissions = [("block_subject", _("Can block and unblock users and networks"))]
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
                raise ValidationError({"network": in_words(error)}) from error

    @property
    def subject(self) -> str:
        return self.network or (self.user.get_username() if self.user else "")

    @property
    def is_active(self) -> bool:
        return self.lifted_at is None and (self.expires_at is None or self.expires_at > timezone.now())
