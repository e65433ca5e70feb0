"""The application of the live tests in a process whose lease is short: no test need wait for half a minute."""

from tests.live.app import application

from channels_secure.supervisor import leases, presence  # isort: skip - Django is set up by the line above

__all__ = ["application"]

leases.LEASE, leases.RENEWAL, leases.REAP_INTERVAL = 3.0, 0.5, 0.2
presence.LOOK_INTERVAL, presence.REFRESH_INTERVAL = 0.2, 0.2
