"""What the commands and the page describe: the project's own ASGI application, or a choice of its consumers."""

import json
from collections.abc import Sequence
from typing import Any

from channels.consumer import AsyncConsumer
from django.conf import settings
from django.utils.module_loading import import_string

from channels_secure.asyncapi.routes import Route, label
from channels_secure.asyncapi.schemas import Undescribable


def application(*, may_lack: bool = False) -> Any:
    """The ASGI application that the setting ASGI_APPLICATION names.

    Args:
        may_lack: return None where the setting names none.

    Raises:
        Undescribable: there is none, or it cannot be imported.
    """
    path = getattr(settings, "ASGI_APPLICATION", None)
    if not path and may_lack:
        return None
    if not path:
        raise Undescribable("ASGI_APPLICATION is not set, so there are no routes to describe")
    try:
        return import_string(path)
    except Exception as error:  # whatever the project's module does
        raise Undescribable(f"ASGI_APPLICATION {path!r} cannot be imported: {type(error).__name__}: {error}") from error


def choose(routes: Sequence[Route], paths: Sequence[str]) -> list[Route]:
    """The routes of the consumers with these dotted paths; a consumer without a route is described without an address.

    Raises:
        Undescribable: a path leads to no class.
    """
    chosen: list[Route] = []
    for path in dict.fromkeys(paths):
        found = [route for route in routes if label(route.consumer) == path]
        chosen += found or [Route(consumer=_consumer(path))]
    return chosen


def _consumer(path: str) -> type:
    try:
        consumer = import_string(path)
    except Exception as error:  # whatever the project's module does
        raise Undescribable(f"{path!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(consumer, type) and issubclass(consumer, AsyncConsumer)):
        raise Undescribable(f"{path!r} is no consumer class")
    return consumer


def as_json(document: dict[str, Any]) -> str:
    """The document as text, always the same for the same document."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
