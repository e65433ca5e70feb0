"""Rooms, the people in them, and what these are told."""

import asyncio
from collections.abc import Callable
from typing import Any

from channels.routing import URLRouter
from django.contrib.auth import get_user_model
from django.urls import path

from channels_secure import database
from channels_secure.rooms.consumers import RoomConsumer
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Role
from channels_secure.testing import SecureCommunicator, guarded
from tests.sockets import PATIENCE

application = guarded(URLRouter([path("ws/<str:room>/", RoomConsumer.as_asgi())]))

Frame = dict[str, Any]


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """As a view, a command or a task of the project's does it; the package's threads let their connections go."""
    return await database.ask_project(function, *args, **kwargs)


async def person(name: str, **fields: Any) -> Any:
    return await get_user_model().objects.acreate_user(name, **fields)


async def a_room(slug: str = "lobby", *, owner: Any = None, visibility: str = "public", **fields: Any) -> Room:
    room = Room(slug=slug, title=slug.title(), owner=owner, visibility=visibility, **fields)
    await in_thread(room.save)
    return room


async def membership(room: Room, user: Any, role: str = Role.MEMBER, **fields: Any) -> Membership:
    row = Membership(room=room, user=user, role=role, **fields)
    await in_thread(row.save)
    return row


def enter(room: str, user: Any, app: Any = application, **options: Any) -> SecureCommunicator:
    return SecureCommunicator(app, f"/ws/{room}/", user=user, **options)


async def inside(room: str, user: Any, app: Any = application) -> SecureCommunicator:
    """A socket that is in the room and has been told so."""
    socket = enter(room, user, app)
    outcome = await socket.shake_hands()
    assert outcome.accepted, outcome
    await heard(socket, "room.entered")
    return socket


async def heard(socket: SecureCommunicator, kind: str, which: Callable[[Frame], bool] = lambda _: True) -> Frame:
    """The next message of a type; what comes before it is passed over."""
    async with asyncio.timeout(PATIENCE):
        while True:
            frame: Frame = await socket.receive_json_from(PATIENCE)
            if frame["type"] == kind and which(frame):
                return frame


async def asked(socket: SecureCommunicator, kind: str, **facts: Any) -> Frame:
    """Send a message with an id, and return what answers it: `room.done`, `room.here` or an error."""
    await socket.send_json_to({"type": kind, "id": "q", **facts})
    async with asyncio.timeout(PATIENCE):
        while True:
            frame: Frame = await socket.receive_json_from(PATIENCE)
            if frame.get("ref") == "q":
                return frame
