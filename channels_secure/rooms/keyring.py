"""Reading and storing the keys of encrypted rooms: synchronous, and without any cryptography but a fingerprint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import router, transaction
from django.utils import timezone

from channels_secure import audit
from channels_secure.audit import Source
from channels_secure.exceptions import Denied
from channels_secure.models import policy_change
from channels_secure.policy.decisions import Reason
from channels_secure.rooms.answers import Person, shown
from channels_secure.rooms.key_messages import MAX_HOLDERS, Holder
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.models.keys import Epoch, PublicKey, WrappedKey, fingerprint_of
from channels_secure.rooms.models.room import INSIDE

# Older room keys are of use only to projects that store messages.
KEPT_EPOCHS = 50
# Rooms that are told of a changed key; in others it is noticed with the next message.
MAX_ROOMS_TOLD = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The keys of a room at one moment.

    Args:
        number: of the newest epoch, 0 before the first.
        holders: the members that have a public key.
        wanted: the fingerprints of these keys.
        held: the fingerprints for which the newest room key was wrapped.
    """

    number: int
    holders: tuple[Holder, ...]
    wanted: frozenset[str]
    held: frozenset[str]

    @property
    def in_line(self) -> bool:
        """Whether exactly the members of today can have the room key."""
        return self.number > 0 and self.held == self.wanted


def standing_of(room_pk: int) -> Standing:
    """The keys of a room as they are stored now, and not as a replica remembers them."""
    using = router.db_for_write(Epoch)
    inside = Membership._base_manager.using(using).filter(room_id=room_pk, banned=False, role__in=INSIDE)
    keys = PublicKey._base_manager.using(using).filter(user__in=inside.values("user"))
    known = list(keys.select_related("user").order_by("user_id")[: MAX_HOLDERS + 1])
    newest = Epoch._base_manager.using(using).filter(room_id=room_pk).order_by("-number").first()
    boxes = WrappedKey._base_manager.using(using).filter(epoch=newest)
    held = boxes.values_list("fingerprint", flat=True) if newest else ()
    return Standing(
        number=newest.number if newest else 0,
        holders=tuple(Holder(user=shown(key.user), key=key.key) for key in known),
        wanted=frozenset(key.fingerprint for key in known),
        held=frozenset(held),
    )


def room_key(room_pk: int, number: int, user_pk: Any) -> tuple[Holder, str | None] | None:
    """Who made the room key of an epoch, and what of it is for this user's public key; None without such an epoch."""
    epoch = Epoch._base_manager.filter(room_id=room_pk, number=number).first()
    if epoch is None:
        return None
    own = PublicKey._base_manager.filter(user_id=user_pk).values("fingerprint")
    box = WrappedKey._base_manager.filter(epoch=epoch, fingerprint__in=own).values_list("box", flat=True).first()
    return Holder(user=Person(id=epoch.maker_id, name=epoch.maker_name), key=epoch.maker_key), box


def publish(user: Any, key: str, replace: bool, source: Source) -> tuple[str, bool]:
    """Store a user's public key; the key in force afterwards, and whether it is another one than before.

    Another key than the one in force is stored only with `replace`: a second browser must not shut out the first by
    itself.

    Raises:
        Denied: it is the key of another user, whose browser would take this one for a liar and stop.
    """
    known = _key_of(user.pk)
    if known is not None and (known == key or not replace):
        return known, False
    # Counted as a change of policy: the sockets of every process look again who can read.
    with policy_change():
        known = _key_of(user.pk)
        if known is not None and (known == key or not replace):
            return known, False  # another browser was faster
        facts = {"key": key, "fingerprint": fingerprint_of(key), "made_at": timezone.now()}
        if PublicKey._base_manager.filter(fingerprint=facts["fingerprint"]).exclude(user_id=user.pk).exists():
            raise Denied(Reason.PERMISSION_DENIED, detail="another user's key")
        PublicKey._base_manager.update_or_create(user_id=user.pk, defaults=facts)
        act = "key_published" if known is None else "key_replaced"
        audit.write("room.moderated", act, source=source, detail={"fingerprint": facts["fingerprint"]})
    return key, True


def _key_of(user_pk: Any) -> str | None:
    return PublicKey._base_manager.filter(user_id=user_pk).values_list("key", flat=True).first()


def groups_of(user_pk: Any) -> list[str]:
    """The groups of the encrypted rooms that somebody is a member of."""
    inside = Membership._base_manager.filter(user_id=user_pk, banned=False, role__in=INSIDE)
    rooms = Room._base_manager.filter(encrypted=True, pk__in=inside.values("room")).order_by("pk")
    return [room.group for room in rooms[:MAX_ROOMS_TOLD]]


def rotate(room: Room, user: Any, number: int, boxes: Mapping[str, str], source: Source) -> Holder | None:
    """Begin an epoch with a new room key; None when it is not the next, or not for exactly the members of today."""
    using = router.db_for_write(Epoch)
    with transaction.atomic(using=using):
        if Room._base_manager.using(using).select_for_update().filter(pk=room.pk).first() is None:
            return None
        standing = standing_of(room.pk)
        maker = next((holder for holder in standing.holders if holder.user.id == user.pk), None)
        if maker is None or number != standing.number + 1 or boxes.keys() != standing.wanted:
            return None
        _store(room, user, number, maker, boxes)
        detail = {"room": room.slug, "epoch": number, "members": len(boxes)}
        audit.write("room.moderated", "keys_rotated", source=source, detail=detail)
    return maker


def _store(room: Room, user: Any, number: int, maker: Holder, boxes: Mapping[str, str]) -> None:
    epoch = Epoch(room=room, number=number, maker_id=user.pk, maker_name=maker.user.name, maker_key=maker.key)
    epoch.save(force_insert=True)
    WrappedKey._base_manager.bulk_create(
        [WrappedKey(epoch=epoch, fingerprint=to, box=box) for to, box in boxes.items()]
    )
    Epoch._base_manager.filter(room=room, number__lte=number - KEPT_EPOCHS).delete()
