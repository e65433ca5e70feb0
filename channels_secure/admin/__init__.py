"""The operator's pages: what happened, and who is blocked."""

from channels_secure.admin.blocks import BlockAdmin
from channels_secure.admin.events import AuditEventAdmin
from channels_secure.admin.live import LiveConnectionAdmin

__all__ = ["AuditEventAdmin", "BlockAdmin", "LiveConnectionAdmin"]
