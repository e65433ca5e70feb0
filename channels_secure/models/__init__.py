"""The tables: what happened, who is blocked, whose rights have ended, and who is connected."""

from channels_secure.models.audit import AuditEvent, new_uid
from channels_secure.models.blocks import Block, BlockQuerySet, checked_network
from channels_secure.models.evidence import AuditCheckpoint, AuditHead, AuditRollup
from channels_secure.models.fields import SHORT_LENGTH, TEXT_LENGTH
from channels_secure.models.live import LiveConnection, LiveProcess
from channels_secure.models.revocations import RECHECK, Revocation
from channels_secure.models.tickets import Ticket
from channels_secure.models.version import PolicyVersion, policy_change

__all__ = [
    "RECHECK",
    "SHORT_LENGTH",
    "TEXT_LENGTH",
    "AuditCheckpoint",
    "AuditEvent",
    "AuditHead",
    "AuditRollup",
    "Block",
    "BlockQuerySet",
    "LiveConnection",
    "LiveProcess",
    "PolicyVersion",
    "Revocation",
    "Ticket",
    "checked_network",
    "new_uid",
    "policy_change",
]
