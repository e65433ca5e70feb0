"""Making and lifting blocks."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils import timezone

from channels_secure import audit, database, signals
from channels_secure.audit import plain
from channels_secure.conf import get_settings
from channels_secure.models import Block, PolicyVersion, checked_network, policy_change
from channels_secure.policy.addresses import IPAddress, IPNetwork, network_for

Network = str | IPAddress | IPNetwork
MAX_SECONDS = 100 * 365 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a block is about: a user or a network, in the form in which it is stored."""

    user: Any = None
    network: str | None = None

    @classmethod
    def of(cls, user: Any, network: str | None) -> Self:
        if (user is None) == (network is None):
            raise ValueError("name either a user or a network")
        return cls(user=None if user is None else stored_user(user), network=network)

    @property
    def columns(self) -> dict[str, Any]:
        return {"network": self.network} if self.user is None else {"user_id": self.user.pk}

    @property
    def facts(self) -> dict[str, Any]:
        return {"user": self.user, "ip": self.network or ""}

    def blocks(self, using: str) -> models.QuerySet[Block]:
        """The blocks of this very subject that are active now."""
        return Block.objects.using(using).active().filter(**self.columns)


def block(
    user: Any = None,
    network: Network | None = None,
    duration: float | timedelta | None = None,
    reason: str = "",
    by: Any = None,
    automatic: bool = False,
) -> Block:
    """Block a user or a network; open sockets are closed everywhere within a second of the commit.

    A block that already lasts as long is returned instead of a second one; a longer one is added to it.

    Args:
        user: a user of the project or the primary key of one.
        network: an address or a network; a bare IPv6 address stands for its /`IPV6_PREFIX`.
        duration: seconds or a timedelta; None is for ever.
        by: the user who blocks, or the name of something else that does, for the audit trail.
        automatic: no person decided this.

    Raises:
        ValueError: not exactly one of user and network, an unknown user, a network that may not be blocked, a duration
            that is not positive.
    """
    subject = Subject.of(user, None if network is None else checked_network(network))
    expires_at = end_of(duration)
    with policy_change() as using:
        for standing in subject.blocks(using):
            if _outlasts(standing, expires_at) and (automatic or not standing.automatic):
                return standing
        return insert(subject, using, expires_at=expires_at, reason=reason, by=by, automatic=automatic)


def unblock(user: Any = None, network: Network | None = None, by: Any = None, reason: str = "") -> int:
    """Lift every active block of a user or of exactly this network; returns how many there were.

    Raises:
        ValueError: not exactly one of user and network, an unknown user, or text that is no network.
    """
    # Not `checked_network`: a row that should never have been made must be liftable.
    text = None if network is None else str(network_for(str(network), get_settings().ipv6_prefix))
    subject = Subject.of(user, text)
    with policy_change() as using:
        return _lift(subject.blocks(using), using, by, reason)


def lift(keys: Iterable[int], by: Any = None, reason: str = "") -> int:
    """Lift those of the given blocks that are active; returns how many."""
    with policy_change() as using:
        return _lift(Block.objects.using(using).active().filter(pk__in=list(keys)), using, by, reason)


async def ablock(
    user: Any = None,
    network: Network | None = None,
    duration: float | timedelta | None = None,
    reason: str = "",
    by: Any = None,
    automatic: bool = False,
) -> Block:
    """`block()` from the event loop."""
    return await database.write(block, user, network, duration, reason, by, automatic)


async def aunblock(user: Any = None, network: Network | None = None, by: Any = None, reason: str = "") -> int:
    """`unblock()` from the event loop."""
    return await database.write(unblock, user, network, by, reason)


def insert(
    subject: Subject, using: str, *, expires_at: datetime | None, reason: str, by: Any, automatic: bool
) -> Block:
    """Store a block, its audit event and its signal, inside a `policy_change()`."""
    row = Block(
        **subject.columns,
        reason=plain.text(reason),
        automatic=automatic,
        created_by_id=getattr(by, "pk", None),
        expires_at=expires_at,
    )
    # Not `Block.save()`, which would count a second change.
    models.Model.save(row, using=using, force_insert=True)
    detail = {"block": row.pk, "automatic": automatic, "expires_at": _iso(expires_at)}
    audit.write("block.created", row.reason, actor=name_of(by), detail=detail, **subject.facts)
    _announce_after_commit(signals.block_created, row, using, row.reason, subject.user)
    return row


def _lift(blocks: models.QuerySet[Block], using: str, by: Any, reason: str) -> int:
    rows = list(blocks.select_related("user"))
    reason = plain.text(reason)
    for row in rows:
        row.lifted_at = timezone.now()
        row.lifted_by_id = getattr(by, "pk", None)
        models.Model.save(row, using=using, update_fields=["lifted_at", "lifted_by"])
        detail = {"block": row.pk, "automatic": row.automatic, "expires_at": _iso(row.expires_at)}
        audit.write("block.lifted", reason, user=row.user, ip=row.network or "", actor=name_of(by), detail=detail)
        _announce_after_commit(signals.block_lifted, row, using, reason, row.user)
    return len(rows)


def _announce_after_commit(signal: Any, row: Block, using: str, reason: str, user: Any) -> None:
    facts = {"connection_id": "", "user": user, "ip": row.network, "path": "", "reason": reason, "block": row}
    transaction.on_commit(lambda: signal.send_robust(Block, **facts), using=using, robust=True)


def end_of(duration: float | timedelta | None) -> datetime | None:
    """When a block that begins now ends.

    Raises:
        ValueError: the duration is not a positive number of seconds, or longer than a hundred years.
    """
    if duration is None:
        return None
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"{duration!r} is not a duration: give seconds above 0, or None for ever")
    return timezone.now() + timedelta(seconds=seconds)


def name_of(by: Any) -> str:
    return by if isinstance(by, str) else by.get_username() if getattr(by, "pk", None) is not None else ""


def stored_user(user: Any) -> Any:
    """A user, or the one with this primary key.

    Raises:
        ValueError: there is none.
    """
    if isinstance(user, models.Model) or hasattr(user, "get_username"):
        if user.pk is None:
            raise ValueError("this is not a stored user")
        return user
    try:
        return get_user_model()._base_manager.get(pk=user)
    except (models.ObjectDoesNotExist, ValidationError, ValueError, TypeError, OverflowError):
        raise ValueError(f"there is no user with the primary key {user!r}") from None


def _outlasts(standing: Block, expires_at: datetime | None) -> bool:
    return standing.expires_at is None or (expires_at is not None and standing.expires_at >= expires_at)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


@receiver(pre_delete, sender=Block, dispatch_uid="channels_secure.blocklist")
def _count_deletion(using: str, **_: Any) -> None:
    # Sent inside the deletion's transaction, be it of a block, of a queryset, or of a user with their blocks.
    PolicyVersion.bump(using)
