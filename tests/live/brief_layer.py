"""The rooms in a process that soon tells the layer again what it listens to: no test need wait for a minute."""

from tests.live.rooms import application

from channels_secure import groups  # isort: skip - Django has been set up by the application
from channels_secure.supervisor import push

groups.RENEW_INTERVAL = push.RENEW_INTERVAL = 1.0

__all__ = ["application"]
