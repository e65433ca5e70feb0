"""The form that makes a block."""

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from django import forms
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from channels_secure.admin.operators import client_address
from channels_secure.models import Block, checked_network

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Block]
else:
    ModelForm = forms.ModelForm

DURATIONS = [("3600", _("1 hour")), ("86400", _("24 hours")), ("604800", _("7 days")), ("", _("for ever"))]


class BlockForm(ModelForm):
    """Refuses what `Block.clean()` refuses, and the operator's own account and address."""

    # The admin makes a class of its own for each request and puts the request here.
    request: HttpRequest

    duration = forms.ChoiceField(label=_("Duration"), choices=DURATIONS, initial="86400", required=False)

    class Meta:
        model = Block
        fields = ("user", "network", "reason")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        user, network = cleaned.get("user"), cleaned.get("network")
        if user is not None and user == self.request.user:
            self.add_error("user", _("This is your own account."))
        if network and self._is_own(network):
            self.add_error("network", _("Your own address is in this network."))
        return cleaned

    def _is_own(self, text: str) -> bool:
        address = client_address(self.request)
        try:
            return address is not None and address in ip_network(checked_network(text))
        except ValueError:
            # `Block.clean()` says what is wrong with it.
            return False

    @property
    def seconds(self) -> float | None:
        return float(self.cleaned_data["duration"]) if self.cleaned_data["duration"] else None
