"""What people fill in: a room of their own, and whom they take into it."""

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.utils.crypto import get_random_string
from django.utils.text import slugify

from channels_secure.rooms.models import Room


class RoomForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new room, with an address that nobody can guess from its title."""

    class Meta:
        model = Room
        fields = ("title", "visibility", "slow_mode", "encrypted")

    def __init__(self, *args: Any, owner: User | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.instance.owner = owner

    def save(self, commit: bool = True) -> Any:
        self.instance.slug = f"{slugify(self.instance.title)[:60]}-{get_random_string(8)}".strip("-")
        return super().save(commit)


class MemberForm(forms.Form):
    """Somebody by their username."""

    username = forms.CharField(max_length=150)

    def clean_username(self) -> User:
        user = User.objects.filter(username=self.cleaned_data["username"], is_active=True).first()
        if user is None:
            raise forms.ValidationError("There is nobody of this name.")
        return user
