"""WebSockets in the project's own admin of users: put `SecureUserAdminMixin` first among its bases.

It asks nothing of the user model but what Django does: any primary key, any name of the field people log in with.
"""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from channels_secure.admin import crowd
from channels_secure.admin.operators import acting, may_block, may_disconnect
from channels_secure.admin.panel import UserPanel
from channels_secure.admin.revoking import may_revoke

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = object

ACTIONS = ("websocket_block", "websocket_disconnect", "websocket_revoke")
PARTS = {"state": "websocket_state", "connections": "websocket_connections", "events": "websocket_events"}
# A user carries the panel of the page that shows them.
PANEL = "channels_secure_panel"


class SecureUserAdminMixin(ModelAdmin):
    """Adds three actions to the list of users, and to a user's page whether they are blocked and what they have open.

    The fields `websocket_state`, `websocket_connections` and `websocket_events` come last, as a fieldset of their own,
    unless the admin's own fieldsets name one of them.
    """

    def __init__(self, model: Any, admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        # Not by `get_actions()`, whose parameters differ between Django 5.2 and 6.1. None is a list without actions.
        if self.actions is not None:
            self.actions = [*self.actions, *(name for name in ACTIONS if name not in self.actions)]

    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(css={"all": ("channels_secure/admin.css",)})

    # The page of a user ----------------------------------------------------------------------------------------------

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*super().get_readonly_fields(request, obj), *PARTS.values())

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        vars(obj)[PANEL] = UserPanel(self.admin_site, request, obj.pk)
        fields = tuple(PARTS[part] for part in UserPanel.parts(request))
        if not fields or set(PARTS.values()) & set(flatten_fieldsets(fieldsets)):
            return fieldsets
        return [*fieldsets, (_("WebSockets"), {"fields": fields})]

    @admin.display(description=_("state"))
    def websocket_state(self, user: Any) -> SafeString:
        return _show(user, "state")

    @admin.display(description=_("live connections"))
    def websocket_connections(self, user: Any) -> SafeString:
        return _show(user, "connections")

    @admin.display(description=_("last events"))
    def websocket_events(self, user: Any) -> SafeString:
        return _show(user, "events")

    # The list of users -----------------------------------------------------------------------------------------------

    def has_websocket_block_permission(self, request: HttpRequest) -> bool:
        return may_block(request)

    def has_websocket_disconnect_permission(self, request: HttpRequest) -> bool:
        return may_disconnect(request)

    def has_websocket_revoke_permission(self, request: HttpRequest) -> bool:
        return may_revoke(request)

    @admin.action(description=_("Block from WebSockets"), permissions=["websocket_block"])
    @acting
    def websocket_block(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        return crowd.block(self, request, queryset)

    @admin.action(description=_("Disconnect WebSockets"), permissions=["websocket_disconnect"])
    @acting
    def websocket_disconnect(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        return crowd.disconnect(self, request, queryset)

    @admin.action(description=_("Revoke tokens"), permissions=["websocket_revoke"])
    @acting
    def websocket_revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        return crowd.revoke(self, request, queryset)


def _show(user: Any, part: str) -> SafeString:
    panel: UserPanel | None = vars(user).get(PANEL)
    return SafeString("") if panel is None else panel.show(part)
