"""Where the dashboard's links lead, and whom they are for: an address is empty for those whom it would refuse."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from channels_secure.admin.operators import may_block
from channels_secure.admin.periods import Period
from channels_secure.models import AuditEvent, Block, LiveConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """The lists and pages of one admin site, as one operator may see them."""

    site: AdminSite
    period: Period
    events_page: str
    blocks_page: str
    connections_page: str
    block_page: str
    back: str

    def events(self, **chosen: Any) -> str:
        return _with(self.events_page, {"period": self.period.key, **chosen})

    def event(self, key: int) -> str:
        return self._page("auditevent_change", key) if self.events_page else ""

    def blocks(self) -> str:
        return _with(self.blocks_page, {"state": "active"})

    def block(self, key: int) -> str:
        return self._page("block_change", key) if self.blocks_page else ""

    def connections(self) -> str:
        return self.connections_page

    def form(self, **subject: Any) -> str:
        """The form that blocks, which leads back here."""
        return _with(self.block_page, {**subject, "next": self.back})

    def _page(self, name: str, key: int) -> str:
        return reverse(f"admin:channels_secure_{name}", args=[key], current_app=self.site.name)


def leading(site: AdminSite, request: HttpRequest, period: Period) -> Leading:
    blocking = may_block(request) and site.is_registered(Block)
    dashboard = reverse("admin:channels_secure_dashboard", current_app=site.name)
    return Leading(
        site=site,
        period=period,
        events_page=_list(site, request, AuditEvent),
        blocks_page=_list(site, request, Block),
        connections_page=_list(site, request, LiveConnection),
        block_page=reverse("admin:channels_secure_block_add", current_app=site.name) if blocking else "",
        back=f"{dashboard}?{urlencode({'period': period.key})}",
    )


def _list(site: AdminSite, request: HttpRequest, model: type[Model]) -> str:
    """A model's list; empty where the site has none, or none for this operator."""
    if not site.is_registered(model) or not site.get_model_admin(model).has_view_permission(request):
        return ""
    return reverse(f"admin:channels_secure_{model._meta.model_name}_changelist", current_app=site.name)


def _with(page: str, chosen: dict[str, Any]) -> str:
    asked = {name: value for name, value in chosen.items() if value != ""}
    return f"{page}?{urlencode(asked)}" if page else ""
