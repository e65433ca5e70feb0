"""The application of the live tests with slots that lapse soon: no test need wait for half a minute."""

from tests.live.app import application

from channels_secure.stores.redis import slots  # isort: skip - Django has been set up by the application
from channels_secure.supervisor import renewal

slots.LEASE = 3_000
renewal.INTERVAL = 0.5

__all__ = ["application"]
