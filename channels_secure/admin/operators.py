"""The operator behind a request: what they may do, and where they are."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from django.http import HttpRequest

from channels_secure import audit
from channels_secure.conf import get_settings
from channels_secure.policy.addresses import IPAddress, resolve_client

View = TypeVar("View", bound=Callable[..., Any])


def may_view_dashboard(request: HttpRequest) -> bool:
    return request.user.has_perm("channels_secure.view_dashboard")


def may_block(request: HttpRequest) -> bool:
    """Block and lift; Django's own permission to add blocks says the same."""
    return any(request.user.has_perm(f"channels_secure.{name}") for name in ("block_subject", "add_block"))


def may_disconnect(request: HttpRequest) -> bool:
    return request.user.has_perm("channels_secure.disconnect_connection")


def may_export(request: HttpRequest) -> bool:
    return request.user.has_perm("channels_secure.export_audit")


def acting(view: View) -> View:
    """A method of an admin that gets a request: what it changes is recorded with the operator's address."""

    @wraps(view)
    def call(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with audit.acting_from(client_address(request)):
            return view(self, request, *args, **kwargs)

    return call  # type: ignore[return-value]


def client_address(request: HttpRequest) -> IPAddress | None:
    """The operator's address as a WebSocket of theirs would be seen."""
    proxies = get_settings().proxies
    name = "HTTP_" + proxies.header.decode().upper().replace("-", "_")
    forwarded = [request.META[name].encode("latin-1", "replace")] if name in request.META else []
    return resolve_client(request.META.get("REMOTE_ADDR") or None, forwarded, proxies).address
