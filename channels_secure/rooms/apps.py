"""Django's entry of the rooms."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RoomsConfig(AppConfig):
    """Connects what has to be told when rooms and memberships are deleted."""

    name = "channels_secure.rooms"
    label = "channels_secure_rooms"
    verbose_name = _("Chat rooms")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Receivers register on import, which models must not wait for.
        from channels_secure.rooms import receivers  # noqa: F401
