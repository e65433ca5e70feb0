"""Blocks that nobody decided: too many things refused, and the next duration each time."""

import logging
import threading
import time
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import router
from django.utils import timezone

from channels_secure import database
from channels_secure.blocklist.changes import Subject, end_of, insert
from channels_secure.conf import get_settings
from channels_secure.models import Block, checked_network, policy_change
from channels_secure.policy.addresses import IPAddress, is_never_blocked_automatically, parse_address
from channels_secure.policy.rates import Bucket, Rate

logger = logging.getLogger("channels_secure")

MEMORY = timedelta(days=30)
# Each makes a row and a reload in every process; whoever owns a million addresses must not be able to order more.
MOST = Rate(60, 60.0)

_lock = threading.Lock()
_under_way: set[str] = set()
_allowance = Bucket(MOST)


def reset() -> None:
    """Forget what is under way and what was spent; for tests."""
    _under_way.clear()
    _allowance.tat = 0.0


async def ablock_automatically(
    user: Any = None, address: str | IPAddress | None = None, reason: str = ""
) -> Block | None:
    """Block a user, or else an address, for the next of AUTO_BLOCK_DURATIONS.

    Returns None, and does nothing, for staff, superusers, loopback, private and trusted-proxy addresses, for a subject
    that is blocked already or just being blocked, and beyond 60 such blocks a minute in this process.

    Raises:
        ValueError: not exactly one of user and address, or an address that is none.
        django.db.Error: the database is away.
    """
    if (user is None) == (address is None):
        raise ValueError("name either a user or an address")
    key = f"user:{user.pk}" if user is not None else f"address:{address}"
    if not _begin(key):
        return None
    try:
        return await database.write(_block, None if user is None else user.pk, address, reason)
    finally:
        with _lock:
            _under_way.discard(key)


def _begin(key: str) -> bool:
    with _lock:
        if key in _under_way:
            return False
        if _allowance.take(time.monotonic()):
            logger.warning("block.automatic_limit", extra={"subject": key})
            return False
        _under_way.add(key)
        return True


def _block(user_pk: Any, address: str | IPAddress | None, reason: str) -> Block | None:
    subject = _user_subject(user_pk) if address is None else _address_subject(address)
    # Asked first without the lock: a flood from somebody blocked must not hold up whoever changes blocks.
    if subject is None or subject.blocks(router.db_for_write(Block)).exists():
        return None
    with policy_change() as using:
        if subject.blocks(using).exists():
            return None
        seconds = next_duration(subject, using)
        return insert(subject, using, expires_at=end_of(seconds), reason=reason, by=None, automatic=True)


def next_duration(subject: Subject, using: str) -> float:
    """Seconds for the next automatic block: longer for each that the last 30 days saw and no operator took back."""
    durations = get_settings().auto_block_durations
    since = timezone.now() - MEMORY
    earlier = Block.objects.using(using).filter(
        automatic=True, created_at__gte=since, lifted_at=None, **subject.columns
    )
    return durations[min(earlier.count(), len(durations) - 1)]


def _user_subject(pk: Any) -> Subject | None:
    # Read again: whoever was made staff after the handshake is staff.
    user = get_user_model()._base_manager.filter(pk=pk).first()
    if user is None or getattr(user, "is_staff", False) or getattr(user, "is_superuser", False):
        return None
    return Subject(user=user)


def _address_subject(address: str | IPAddress) -> Subject | None:
    parsed = parse_address(address) if isinstance(address, str) else address
    if parsed is None:
        raise ValueError(f"{address!r} is not an address")
    if is_never_blocked_automatically(parsed, get_settings().proxies.networks):
        return None
    try:
        return Subject(network=checked_network(parsed))
    except ValueError:
        # Its /64 holds a trusted proxy.
        return None
