"""Deleting a room or a membership is a change of it, whoever deletes: the admin, a queryset, a user's own end."""

from typing import Any

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models.signals import pre_delete
from django.dispatch import receiver

from channels_secure.models import policy_change
from channels_secure.policy.decisions import Reason
from channels_secure.rooms.changes import end_sockets, tell_user
from channels_secure.rooms.models import Membership, Room


@receiver(pre_delete, sender=Room, dispatch_uid="channels_secure.rooms")
def _room_deleted(instance: Room, **_: Any) -> None:
    # Before the deletion, and so in the order in which every change takes its locks.
    with policy_change() as using:
        end_sockets(instance.group, Reason.NOT_FOUND, using=using)


@receiver(pre_delete, sender=Membership, dispatch_uid="channels_secure.rooms")
def _membership_deleted(instance: Membership, origin: Any = None, **_: Any) -> None:
    if _ends_with(origin):
        return
    with policy_change() as using:
        tell_user(instance.user_id, using=using)


def _ends_with(origin: Any) -> bool:
    """Whether the sockets are told anyway, because the room or the user goes."""
    model = origin.model if isinstance(origin, models.QuerySet) else type(origin)
    return isinstance(model, type) and issubclass(model, Room | get_user_model())
