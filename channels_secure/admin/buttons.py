"""Links to the pages that block, disconnect and revoke, for those who may open them; empty for all others."""

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from channels_secure.admin.operators import may_block, may_disconnect
from channels_secure.admin.revoking import may_revoke
from channels_secure.models import checked_network


def page(site: AdminSite, name: str, *arguments: Any, **parameters: Any) -> str:
    """The address of a page of ours; empty on a site of the project's own that does not have it."""
    try:
        address = reverse(f"admin:channels_secure_{name}", args=arguments, current_app=site.name)
    except NoReverseMatch:
        return ""
    return f"{address}?{urlencode(parameters)}" if parameters else address


def block_user(site: AdminSite, request: HttpRequest, key: Any) -> str:
    return page(site, "block_add", user=key, next=request.get_full_path()) if may_block(request) else ""


def block_address(site: AdminSite, request: HttpRequest, ip: str) -> str:
    if not (may_block(request) and can_be_blocked(ip)):
        return ""
    return page(site, "block_add", network=ip, next=request.get_full_path())


def disconnect(site: AdminSite, request: HttpRequest, **selector: Any) -> str:
    if not may_disconnect(request):
        return ""
    return page(site, "liveconnection_disconnect", **selector, next=request.get_full_path())


def revoke(site: AdminSite, request: HttpRequest, key: Any) -> str:
    return page(site, "liveconnection_revoke", user=key, next=request.get_full_path()) if may_revoke(request) else ""


def events(site: AdminSite, request: HttpRequest, **filters: Any) -> str:
    if not request.user.has_perm("channels_secure.view_auditevent"):
        return ""
    return page(site, "auditevent_changelist", **filters)


def can_be_blocked(ip: str) -> bool:
    """Whether an address as it was recorded is one that a block may have."""
    try:
        checked_network(ip)
    except ValueError:
        return False
    return True
