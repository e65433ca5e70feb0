"""Every row that is data: importing this module fills the table."""

from tests.conformance import addresses, credentials, messages, origins, refreshes, scenarios, tickets, upgrades

__all__ = ["addresses", "credentials", "messages", "origins", "refreshes", "scenarios", "tickets", "upgrades"]
