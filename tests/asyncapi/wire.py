"""Consumers with every construct that a schema may have, for the tests of what describes them."""

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID

import msgspec
from channels.generic.websocket import AsyncWebsocketConsumer
from msgspec import UNSET, Meta, UnsetType
from pydantic import BaseModel, ConfigDict, Field

from channels_secure.consumers import SecureJsonConsumer, handles

T = TypeVar("T")


class Colour(Enum):
    """Of a pen."""

    RED = "red"
    DARK_BLUE = "dark blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: int = 0


class Circle(msgspec.Struct, tag="circle", tag_field="kind"):
    centre: Point
    radius: Annotated[float, Meta(gt=0)]


class Square(msgspec.Struct, tag="square", tag_field="kind"):
    corner: Point
    side: float


class Packed(msgspec.Struct, array_like=True, frozen=True):
    first: int
    second: str = "two"


class Sealed(msgspec.Struct, array_like=True, tag="sealed", forbid_unknown_fields=True):
    text: str


class Tree(msgspec.Struct):
    """Goes on for ever."""

    name: str
    children: list["Tree"] = []
    parent: "Tree | None" = None


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


@dataclass
class Place:
    latitude: Annotated[float, Meta(ge=-90, le=90)]
    longitude: float = 0.0
    tags: list[str] = field(default_factory=list)


class Options(TypedDict):
    loud: bool
    colour: NotRequired[Colour]


class Everything(msgspec.Struct, forbid_unknown_fields=True, rename={"odd": "an odd-name", "dollar": "$ref"}):
    """One of each."""

    text: Annotated[str, Meta(min_length=1, max_length=5, pattern="^[a-z]*$")]
    number: Annotated[int, Meta(ge=0, le=10, multiple_of=2)]
    odd: int = 1
    dollar: str = "§"
    fraction: float | None = None
    flag: bool = False
    raw: bytes = b""
    day: date | UnsetType = UNSET
    moment: datetime | UnsetType = UNSET
    clock: time | UnsetType = UNSET
    span: timedelta | UnsetType = UNSET
    name: UUID | UnsetType = UNSET
    price: Decimal | UnsetType = UNSET
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    choice: Literal["a", "b", 3, None] = "a"
    shape: Circle | Square | None = None
    several: int | str | list[int] = 0
    pair: tuple[int, str] = (1, "one")
    many: tuple[int, ...] = ()
    none_at_all: tuple[()] = ()
    point: Point = Point(0)
    packed: Packed = Packed(1)
    sealed: Sealed | None = None
    letters: frozenset[str] = frozenset({"a", "b", "c", "d"})
    counts: dict[str, Annotated[int, Meta(ge=0)]] = {}
    by_number: dict[int, str] = {}
    tree: Tree | None = None
    page: Page[int] | None = None
    place: Place | None = None
    options: Options | None = None
    anything: Any = None
    boxes: Annotated[list[Annotated[str, Meta(max_length=3)]], Meta(min_length=1, max_length=2)] | UnsetType = UNSET


class Note(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=20)
    stars: Literal[1, 2, 3] = 1
    about: "Note | None" = None


class Said(msgspec.Struct, tag="chat.said", tag_field="type"):
    """Somebody has said something."""

    user: str
    text: str
    at: datetime


class Left(TypedDict):
    type: Literal["chat.left"]
    user: str


@dataclass
class Joined:
    user: str
    type: Literal["chat.joined"] = "chat.joined"


async def may_shout(consumer: Any, message: Any) -> bool:
    return True


class EverythingConsumer(SecureJsonConsumer):
    """Takes one of
    each.

    And has more to say about it:
    - a
    - list
    """

    heartbeat_interval = 20
    send_hello = True
    sends = (Said, Left | Joined)

    @handles("everything", rate="5/10s", cost=2)
    async def everything(self, message: Everything) -> None:
        """Take all of it."""

    @handles("place")
    async def place(self, message: Place) -> None: ...

    @handles("options")
    async def options(self, message: Options) -> None: ...

    @handles("note", permission="chat.add_note")
    async def note(self, message: Note) -> None: ...

    @handles("counts", permission=may_shout)
    async def counts(self, message: Annotated[dict[str, int], Meta(min_length=1, max_length=2)]) -> None: ...

    @handles("shape")
    async def shape(self, message: Circle | Square) -> None: ...

    @handles("tree")
    async def tree(self, message: Tree) -> None: ...

    @handles("anything")
    async def anything(self, message: Any) -> None: ...


class DropIn(SecureJsonConsumer):
    async def receive_json(self, content: Any) -> None: ...


class Plain(AsyncWebsocketConsumer):
    """Not ours."""
