"""Every row that is data: importing this module fills the table."""

from tests.conformance import addresses, credentials, messages, origins, upgrades

__all__ = ["addresses", "credentials", "messages", "origins", "upgrades"]
