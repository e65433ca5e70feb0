"""The form that makes a block."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from channels_secure.admin import guarding
from channels_secure.models import Block

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Block]
    ModelChoiceField = forms.ModelChoiceField[Any]
else:
    ModelForm = forms.ModelForm
    ModelChoiceField = forms.ModelChoiceField

DURATIONS = [("3600", _("1 hour")), ("86400", _("24 hours")), ("604800", _("7 days")), ("", _("for ever"))]


class UserField(ModelChoiceField):
    """Takes a user's primary key, or else the name by which they log in.

    The key comes first: every button names users by it, and whoever took somebody's key for a name would keep them from
    being blocked. Which of the two was meant is asked (`guarding`).
    """

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values:
            return None
        for name in ("pk", get_user_model().USERNAME_FIELD):
            if (found := self._find(name, value)) is not None:
                return found
        # In the words that Django has for it.
        raise ValidationError(self.error_messages["invalid_choice"], code="invalid_choice", params={"value": value})

    def _find(self, name: str, value: Any) -> Any:
        if "\x00" in str(value):
            return None  # PostgreSQL has no such text
        try:
            return get_user_model()._default_manager.filter(**{name: value}).first()
        except (ValueError, TypeError, OverflowError, ValidationError):
            return None


class BlockForm(ModelForm):
    """Refuses what `Block.clean()` refuses, and what an operator must confirm and has not."""

    # The admin makes a class of its own for each request and puts the request here.
    request: HttpRequest
    # What the form is about, once it has been validated; None where that is nothing that can be blocked.
    plan: guarding.Plan | None = None

    duration = forms.ChoiceField(
        label=_("Duration"),
        choices=DURATIONS,
        initial="86400",
        required=False,
        widget=forms.Select(attrs={"class": "cs-choice"}),
    )
    confirmation = forms.CharField(
        label=_("Confirmation"),
        required=False,
        strip=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    class Meta:
        model = Block
        fields = ("user", "network", "reason")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "user" in self.errors or "network" in self.errors:
            return cleaned
        asked = str(self.data.get(self.add_prefix("user"), ""))
        self.plan = guarding.plan_of(self.request, cleaned.get("user"), cleaned.get("network"), asked)
        if self.plan is None:
            # `Block.clean()` and the constraint say what is wrong.
            return cleaned
        if not self.plan.is_confirmed_by(cleaned.get("confirmation") or ""):
            self.add_error(
                "confirmation", _("Nothing has been blocked. Type what you mean to block, as it stands above.")
            )
        return cleaned

    @property
    def seconds(self) -> float | None:
        return float(self.cleaned_data["duration"]) if self.cleaned_data["duration"] else None
