"""Changes of rooms and memberships: each tells every process in the transaction that makes it, or is not made."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models, router, transaction

from channels_secure.models import RECHECK, Revocation, policy_change
from channels_secure.policy.decisions import Reason
from channels_secure.policy.group_names import group_name
from channels_secure.revocation.rows import insert

Kind = Revocation.Kind


@contextmanager
def changing(instance: models.Model) -> Iterator[str]:
    """A transaction that changes what somebody may do in a room; yields the database in which others are told.

    It takes the lock of every change of policy first, so that decisions are serial over all processes: what a moderator
    may do is read after the change that took it away.
    """
    using = router.db_for_write(type(instance), instance=instance)
    with policy_change() as policy, transaction.atomic(using=using):
        yield policy


def tell_user(user_pk: Any, *, using: str) -> None:
    """Have the sockets of a user looked at again, in all rooms."""
    insert(Kind.USER, [str(user_pk)], RECHECK, using=using)


def tell_room(group: str, *, using: str) -> None:
    """Have the sockets in a room looked at again."""
    insert(Kind.GROUP, [group_name(group)], RECHECK, using=using)


def end_sockets(group: str, reason: Reason, *, using: str) -> None:
    """End the sockets that are in a group now, without asking anybody."""
    insert(Kind.GROUP, [group_name(group)], reason, using=using)


def place_of(group: str, user_pk: Any) -> str:
    """The group of one user's sockets in a room; a mark by which they are found, to which nothing is sent."""
    return f"{group}.user.{user_pk}"
