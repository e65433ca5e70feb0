"""Django's entry: what happens when the project starts."""

import atexit
from importlib.util import find_spec

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ChannelsSecureConfig(AppConfig):
    """Registers the system checks, the log filter and the hooks; touches neither database nor network."""

    name = "channels_secure"
    verbose_name = _("WebSocket security")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Checks and receivers register on import, which models must not wait for.
        from channels_secure import audit, blocklist, checks, lifespan, receivers, redaction, supervisor  # noqa: F401

        redaction.install()
        receivers.connect()
        lifespan.hook_into_reactor()
        if find_spec("prometheus_client") is not None:
            from channels_secure import metrics

            metrics.connect()
        # The last registered is the first called.
        atexit.register(supervisor.leave_at_exit)
        atexit.register(audit.flush_at_exit)
        atexit.register(supervisor.record_ends)
