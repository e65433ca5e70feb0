"""From the ASGI application to its WebSocket consumers: which class answers at which address, and behind what."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CellType, FunctionType
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls.resolvers import RegexPattern

from channels_secure.middleware import HandshakeMiddleware

_PARAMETER = re.compile(r"<(?:[^<>:]+:)?([^<>:]+)>")
_ESCAPED = re.compile(r"\\([^A-Za-z0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A consumer class at an address.

    Args:
        address: the path, with parameters in braces (``/ws/chat/{room}/``); None where no route leads to the class.
        parameters: the names in the address, each with the regular expression that its value matches, if known.
        guarded: whether `HandshakeMiddleware` stands before it.
    """

    consumer: Any
    address: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    guarded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the walk has come to; `above` are the objects it came through."""

    path: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    guarded: bool = False
    above: tuple[Any, ...] = ()


def routes_of(application: Any) -> list[Route]:
    """Every WebSocket consumer of an ASGI application, by address and class.

    It is found through Channels' routers, and through middleware that keeps what it wraps in an attribute or, written
    as a function, in its closure.
    """
    # A middleware that keeps what it wraps in two places leads there twice.
    routes = dict.fromkeys(_walk(application, _Place()))
    return sorted(routes, key=lambda route: (route.address or "", label(route.consumer)))


def label(consumer: Any) -> str:
    """The dotted path of a class."""
    return f"{consumer.__module__}.{consumer.__qualname__}"


def _walk(node: Any, place: _Place) -> Iterator[Route]:
    if any(node is one for one in place.above):
        return
    consumer = getattr(node, "consumer_class", None)
    if isinstance(consumer, type):
        address = "/" + place.path.lstrip("/")
        yield Route(consumer=consumer, address=address, parameters=place.parameters, guarded=place.guarded)
    elif isinstance(node, ProtocolTypeRouter):
        yield from _walk(node.application_mapping.get("websocket"), _further(place, node))
    elif isinstance(node, URLRouter):
        for route in node.routes:
            yield from _walk(route.callback, _below(place, node, route.pattern))
    else:
        for inner in _inside(node):
            yield from _walk(inner, _further(place, node))


def _further(place: _Place, node: Any) -> _Place:
    return _Place(
        path=place.path,
        parameters=place.parameters,
        guarded=place.guarded or isinstance(node, HandshakeMiddleware),
        above=(*place.above, node),
    )


def _below(place: _Place, node: Any, pattern: Any) -> _Place:
    return _Place(
        path=place.path + _path(pattern),
        parameters={**place.parameters, **_parameters(pattern)},
        guarded=place.guarded,
        above=(*place.above, node),
    )


def _path(pattern: Any) -> str:
    return _PARAMETER.sub(r"{\1}", _simple(pattern) if isinstance(pattern, RegexPattern) else str(pattern))


def _simple(pattern: RegexPattern) -> str:
    """A regular expression as a path: groups as parameters, without what matches no character."""
    # Not at the top: it imports docutils, where that is installed.
    from django.contrib.admindocs.views import simplify_regex

    # It begins with a slash of its own, which the router has taken off the path.
    return _ESCAPED.sub(r"\1", simplify_regex(str(pattern))).lstrip("/")


def _parameters(pattern: Any) -> dict[str, str]:
    if isinstance(pattern, RegexPattern):
        return dict.fromkeys(_PARAMETER.findall(_simple(pattern)), "")
    return {name: converter.regex for name, converter in pattern.converters.items()}


def _inside(node: Any) -> Iterable[Any]:
    """What a middleware may have wrapped."""
    found = list(getattr(node, "__dict__", {}).values())
    if isinstance(node, FunctionType):
        # `functools.wraps` copies the attributes of what it wraps, so that they would be come by without it.
        wrapped = getattr(node, "__wrapped__", None)
        found = [wrapped] if callable(wrapped) else [_content(cell) for cell in node.__closure__ or ()]
    distinct = {id(each): each for each in found if callable(each) and not isinstance(each, type)}
    return distinct.values()


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None  # a variable that has not been set yet
