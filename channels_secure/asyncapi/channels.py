"""A channel of the document: one consumer class at one address, with its limits and its messages."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from channels_secure.asyncapi import messages as of
from channels_secure.asyncapi import security
from channels_secure.asyncapi.messages import Message
from channels_secure.asyncapi.names import distinct, slug
from channels_secure.asyncapi.routes import Route, label
from channels_secure.asyncapi.schemas import Sketch
from channels_secure.asyncapi.talk import Talk, frames_received, frames_sent
from channels_secure.conf import Settings
from channels_secure.consumers.consumer import SecureJsonConsumer
from channels_secure.consumers.handlers import plan_of
from channels_secure.limits import Limits, limits_of

# A consumer that is not ours: what passes its socket is known to nobody but itself.
_UNKNOWN = "Whatever this consumer says: it declares nothing."


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One consumer class at one address.

    Args:
        received: what clients may send.
        sent: what they may get.
        codec: what frames are encoded with; empty where they are the JSON itself.
    """

    key: str
    route: Route
    limits: Limits
    received: Sequence[Message]
    sent: Sequence[Message]
    codec: str = ""

    @property
    def messages(self) -> list[Message]:
        return [*self.received, *self.sent]


def channels_of(routes: Iterable[Route], settings: Settings) -> list[Channel]:
    """The channels of a document, in the order of the routes.

    Raises:
        BadDeclaration: a consumer class cannot work as it is declared.
        Undescribable: one of its types cannot be described.
    """
    routes = list(routes)
    return [_channel(route, key, settings) for route, key in zip(routes, _keys(routes), strict=True)]


def _keys(routes: Sequence[Route]) -> list[str]:
    """Keys for the channels: the name of the class, the whole dotted path of one that shares it, and the address of one
    that has several."""
    classes = dict.fromkeys(route.consumer for route in routes)
    names = Counter(consumer.__name__ for consumer in classes)
    places = Counter(route.consumer for route in routes)
    taken: set[str] = set()
    keys = []
    for route in routes:
        consumer = route.consumer
        key = consumer.__name__ if names[consumer.__name__] == 1 else label(consumer)
        if places[consumer] > 1:
            key += "." + ".".join(step.strip("{}") for step in (route.address or "").strip("/").split("/"))
        keys.append(distinct(slug(key), taken))
    return keys


def _channel(route: Route, key: str, settings: Settings) -> Channel:
    consumer = route.consumer
    if not issubclass(consumer, SecureJsonConsumer):
        return _foreign(route, key, settings)
    base: Any = SecureJsonConsumer
    plan = plan_of(consumer, base, settings)
    talk = Talk.of(consumer, plan, takes_tokens=security.takes_tokens())
    return Channel(
        key=key,
        route=route,
        limits=plan.limits,
        received=[*of.received(consumer, plan), *frames_received(talk)],
        sent=[*of.sent(consumer), *frames_sent(talk)],
        codec="" if plan.codec is None else type(plan.codec).__name__,
    )


def _foreign(route: Route, key: str, settings: Settings) -> Channel:
    anything = Message(
        direction="receive",
        name="anything",
        key="anything",
        owner=route.consumer.__name__,
        payload=Sketch(root={}, parts={}),
        description=_UNKNOWN,
    )
    return Channel(
        key=key,
        route=route,
        limits=limits_of(settings),
        received=[anything],
        sent=list(frames_sent(Talk())),
    )
