"""A room's WebSocket: who enters, who speaks, and who may say so."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from channels import DEFAULT_CHANNEL_LAYER
from django.utils import timezone

from channels_secure import audit
from channels_secure.connections import Connection
from channels_secure.connections.events import address_of
from channels_secure.consumers import SecureJsonConsumer, handles
from channels_secure.consumers.misdeclared import BadDeclaration
from channels_secure.exceptions import Denied
from channels_secure.groups import encode
from channels_secure.policy.decisions import Reason
from channels_secure.policy.group_names import group_name
from channels_secure.policy.rates import Rate
from channels_secure.rooms import answers, messages, moderation, speaking
from channels_secure.rooms.changes import place_of
from channels_secure.rooms.key_messages import KEY_FRAMES
from channels_secure.rooms.looking import desk
from channels_secure.rooms.message_ids import new_message_id
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role, admits, role_of
from channels_secure.rooms.roll import Roll
from channels_secure.rooms.rolls import rolls
from channels_secure.rooms.sealed import SealedRoomMixin

# How often one moderator may act: each act is a change of policy, of which every process is told.
ACT_RATE, SLOW_RATE = "60/m", "6/m"


class RoomConsumer(SealedRoomMixin, SecureJsonConsumer):
    """The socket of one user in one room; the route names the room by its slug as `room`.

    `room` and `membership` are those of the last `authorize()`, which is asked again whenever they change.
    """

    sends = (*answers.FRAMES, *KEY_FRAMES)

    room: Room
    membership: Membership | None
    # Until when slow mode has refused, by the monotonic clock, and which.
    slowed: tuple[float, Rate | None] = (0.0, None)
    _roll: Roll
    _shown: tuple[Any, ...] | None = None

    async def authorize(self) -> bool:
        """Whether the user may be in the room; nobody learns whether a room exists that they may not enter."""
        user = self.scope["user"]
        # A room that is renamed meanwhile remains the room.
        found = await desk().ask(self.room.pk if self._shown else self.room_slug(), user.pk)
        if found is None or not admits(*found, user.pk):
            return False
        self.room, self.membership = found
        if user.pk is not None:
            # A mark only: nothing is sent to this group, but whoever is banned or kicked is found by it.
            self._joined[group_name(place_of(self.room.group, user.pk))] = None
        self.say_what_changed()
        rolls().meet_rules(self.room)
        return True

    def room_slug(self) -> str:
        """Which room the socket is for."""
        return str(self.kwargs["room"])

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.channel_layer_alias != DEFAULT_CHANNEL_LAYER:
            raise BadDeclaration(
                f"{cls.__qualname__}.channel_layer_alias: rooms are told of moderation and presence over the channel"
                f" layer {DEFAULT_CHANNEL_LAYER!r} alone"
            )

    @property
    def role(self) -> Role:
        """What the user is in the room."""
        return role_of(self.room, self.membership, self.scope["user"].pk)

    async def tell(self, content: Any) -> None:
        """Send a message to everybody in the room."""
        await self.broadcast(self.room.group, content)

    async def connect(self) -> None:
        await self.join(self.room.group)
        self._roll = await rolls().enter(self)
        await self.accept()
        await self.send_json(self._entered())

    @handles("room.say")
    async def say(self, message: messages.Say) -> answers.Said | None:
        """Returns what everybody has been told; None where the refusal is answered already."""
        speaking.check_word(self)
        if (message.sealed is not None) is not self.room.encrypted or (message.text is None) is not self.room.encrypted:
            raise Denied(Reason.INVALID_MESSAGE)
        # Before anything is charged: whoever is told to make a new room key says it again at once.
        if message.sealed is not None and not await self.check_sealed(message.sealed, message.id):
            return None
        denial = await speaking.too_early(self)
        if denial is not None:
            await self.connection.send_frame(denial.frame(ref=message.id, fatal=False))
            return None
        user = self.scope["user"]
        name = new_message_id(self.room.pk, user.pk)
        said = answers.Said(
            id=name, user=answers.shown(user), at=timezone.now(), text=message.text, sealed=message.sealed
        )
        await self.tell(said)
        await self._done(message, name)
        return said

    @handles("room.who", rate="30/m")
    async def who(self, message: messages.Who) -> None:
        # Behind what waits to be told of who came and went.
        self.connection.post(encode(self._roll.here(message.id)).decode())

    @handles("room.mute", rate=ACT_RATE)
    async def mute(self, message: messages.Mute) -> None:
        await self._act(message, moderation.amute, message.user, message.seconds)

    @handles("room.unmute", rate=ACT_RATE)
    async def unmute(self, message: messages.Unmute) -> None:
        await self._act(message, moderation.aunmute, message.user)

    @handles("room.kick", rate=ACT_RATE)
    async def kick(self, message: messages.Kick) -> None:
        await self._act(message, moderation.akick, message.user)

    @handles("room.ban", rate=ACT_RATE)
    async def ban(self, message: messages.Ban) -> None:
        await self._act(message, moderation.aban, message.user)

    @handles("room.unban", rate=ACT_RATE)
    async def unban(self, message: messages.Unban) -> None:
        await self._act(message, moderation.aunban, message.user)

    @handles("room.promote", rate=ACT_RATE)
    async def promote(self, message: messages.Promote) -> None:
        await self._act(message, moderation.apromote, message.user, message.role)

    @handles("room.delete", rate=ACT_RATE)
    async def delete(self, message: messages.Delete) -> None:
        await self._act(message, moderation.adelete_message, message.message)

    @handles("room.slow", rate=SLOW_RATE)
    async def slow(self, message: messages.Slow) -> None:
        await self._act(message, moderation.aset_slow_mode, message.seconds)

    async def _act(self, message: messages.Request, act: Callable[..., Awaitable[None]], *facts: Any) -> None:
        """Do what a moderator asks for; whether they may is decided where it is stored."""
        user = self.scope["user"]
        if user.pk is None:
            raise Denied(Reason.PERMISSION_DENIED, detail="anonymous")
        with audit.acting_from(address_of(self.connection)):
            try:
                await act(self.room, *facts, by=user)
            except ValueError:
                raise Denied(Reason.NOT_FOUND) from None
        await self._done(message)

    async def _done(self, message: messages.Request, name: str | None = None) -> None:
        if message.id is not None:
            await self.send_json(answers.Done(ref=message.id, message=name))

    def _entered(self) -> answers.Entered:
        room = self.room
        return answers.Entered(
            room=room.slug,
            title=room.title,
            role=self.role,
            slow=room.slow_mode,
            encrypted=room.encrypted,
            muted=round(speaking.seconds_muted(self)),
            members=self._roll.named(),
            count=self._roll.present.count,
        )

    def say_what_changed(self) -> None:
        """Tell the client what is different for it since it was told last."""
        if not admits(self.room, self.membership, self.scope["user"].pk):
            return  # on the way out
        room, muted = self.room, round(speaking.seconds_muted(self))
        until = None if not muted or self.membership is None else self.membership.muted_until
        shown = (room.title, room.slow_mode, room.encrypted, self.role, until)
        before, self._shown = self._shown, shown
        if before is None or before == shown:
            return
        news = answers.Changed()
        for name, old, new in zip(msgspec.structs.fields(answers.Changed), before, shown, strict=True):
            if old != new:
                setattr(news, name.name, muted if name.name == "muted" else new)
        self.connection.post(encode(news).decode())

    async def _leave(self, connection: Connection, entered: bool) -> None:
        rolls().leave(self)
        await super()._leave(connection, entered)
