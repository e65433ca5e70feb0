"""Encrypted rooms: the server passes on keys and messages that it cannot read, and says when the key is out of date.

Whose key is whose is what the members compare; docs/explanation/encryption.md says what a server that lies could do.
"""

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from channels_secure import audit, blocklist, database
from channels_secure.conf import get_settings
from channels_secure.connections import events
from channels_secure.consumers import handles
from channels_secure.exceptions import Denied
from channels_secure.groups import encode, group_name, hub
from channels_secure.policy.decisions import Reason
from channels_secure.rooms import keyring
from channels_secure.rooms.answers import shown
from channels_secure.rooms.key_messages import (
    MAX_HOLDERS,
    EpochBegun,
    Fetch,
    KeyChanged,
    Publish,
    Published,
    Rotate,
    Rotated,
    Stale,
    State,
    Wrapped,
)
from channels_secure.rooms.models import Room
from channels_secure.rooms.roles import Role
from channels_secure.rooms.sealing import Sealed, is_point

if TYPE_CHECKING:
    from channels_secure.consumers import SecureJsonConsumer as Base
else:
    Base = object


class SealedRoomMixin(Base):
    """The keys of encrypted rooms, for members; what is not about keys is the consumer's."""

    room: Room

    # For which version of the policies and which epoch the room key was in line, and until when that is believed.
    _in_line: tuple[int, int] | None = None
    _believed_until = 0.0
    _fetched = False

    @property
    @abstractmethod
    def role(self) -> Role:
        """What the user is in the room."""

    @handles("keys.publish", rate="20/m")
    async def publish_key(self, message: Publish) -> None:
        self._require_member()
        if not is_point(message.key):
            raise Denied(Reason.INVALID_MESSAGE, detail="not a point of the curve")
        user, source = self.scope["user"], events.source_of(self.connection)
        key, changed = await database.write(keyring.publish, user, message.key, message.replace, source)
        await self.send_json(Published(key=key, ref=message.id))
        if changed:
            await self._tell_rooms(KeyChanged(user=shown(user), key=key))

    @handles("keys.fetch", rate="60/m")
    async def fetch_keys(self, message: Fetch) -> None:
        self._require_member()
        standing = await database.run(keyring.standing_of, self.room.pk)
        number = standing.number if message.epoch is None else message.epoch
        found = await database.run(keyring.room_key, self.room.pk, number, self.scope["user"].pk)
        maker, box = (None, None) if found is None else found
        members = list(standing.holders)
        self._note_fetch(number)
        await self.send_json(
            State(
                epoch=standing.number if found is None else number,
                members=members,
                in_line=standing.in_line,
                maker=maker,
                box=box,
                ref=message.id,
            )
        )

    @handles("keys.rotate", rate="30/m")
    async def rotate_keys(self, message: Rotate) -> None:
        self._require_member()
        user, source = self.scope["user"], events.source_of(self.connection)
        boxes = {wrapped.to: wrapped.box for wrapped in message.boxes}
        maker = await database.write(keyring.rotate, self.room, user, message.epoch, boxes, source)
        if maker is None:
            await self._answer_stale(message.id)
            return
        told = [Wrapped(to=to, box=box) for to, box in boxes.items()]
        begun = EpochBegun(epoch=message.epoch, maker=maker, boxes=told)
        await hub(self.channel_layer_alias).broadcast(
            group_name(self.room.group), encode(begun).decode(), must_arrive=False
        )
        await self.send_json(Rotated(epoch=message.epoch, ref=message.id))

    async def check_sealed(self, sealed: Sealed, ref: str | int | None) -> bool:
        """Whether a sealed message may be passed on; False when its sender was told to make a new room key first.

        The database is asked once for each change of policy, memberships and public keys among them; what is changed
        past the models, by SQL, is noticed after a `REVALIDATE_INTERVAL`, as everywhere.

        Raises:
            Denied: the sender is no member, so that nobody could open it.
        """
        self._require_member()
        snapshot, now = blocklist.current(), time.monotonic()
        if snapshot is not None and self._in_line == (snapshot.version, sealed.epoch) and now < self._believed_until:
            return True
        standing = await database.run(keyring.standing_of, self.room.pk)
        if not standing.in_line or sealed.epoch != standing.number:
            await self.send_json(Stale(epoch=standing.number, ref=ref))
            return False
        self._in_line = None if snapshot is None else (snapshot.version, sealed.epoch)
        self._believed_until = now + get_settings().revalidate_interval
        return True

    def _require_member(self) -> None:
        if not self.room.encrypted or self.role is Role.GUEST:
            raise Denied(Reason.PERMISSION_DENIED, detail="keys are for the members of encrypted rooms")

    async def _answer_stale(self, ref: str | int | None) -> None:
        standing = await database.run(keyring.standing_of, self.room.pk)
        if len(standing.holders) > MAX_HOLDERS:
            raise Denied(Reason.PERMISSION_DENIED, f"An encrypted room has {MAX_HOLDERS} members at most.")
        await self.send_json(Stale(epoch=standing.number, ref=ref))

    async def _tell_rooms(self, content: Any) -> None:
        """Tell this room, and every other encrypted one of the user's."""
        text = encode(content).decode()
        for group in await database.run(keyring.groups_of, self.scope["user"].pk):
            await hub(self.channel_layer_alias).broadcast(group_name(group), text, must_arrive=False)

    def _note_fetch(self, epoch: int) -> None:
        """Record who was given keys, once for each connection."""
        if not self._fetched:
            self._fetched = True
            detail = {"room": self.room.slug, "epoch": epoch}
            audit.record("room.moderated", "keys_fetched", source=events.source_of(self.connection), detail=detail)
