"""Rooms and memberships in the admin: what is changed there holds at once, and is recorded with its operator."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import models, transaction
from django.forms import Field, MultiWidget
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as of_django

from channels_secure import audit
from channels_secure.admin.base import ModelAdmin as Base
from channels_secure.admin.operators import acting
from channels_secure.blocklist.changes import name_of
from channels_secure.models import policy_change
from channels_secure.rooms.models import Membership, Room
from channels_secure.rooms.roles import Act

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = Base


class ModeratingAdmin(ModelAdmin):
    """An admin whose changes are moderation: serial with all others, and in the audit trail."""

    show_full_result_count = False

    class Media:
        css = {"all": ("channels_secure/admin.css",)}

    @acting
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return _decide(request, lambda: super(ModeratingAdmin, self).changeform_view(request, *args, **kwargs))

    @acting
    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return _decide(request, lambda: super(ModeratingAdmin, self).delete_view(request, *args, **kwargs))

    @acting
    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return _decide(request, lambda: super(ModeratingAdmin, self).changelist_view(request, *args, **kwargs))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        for act, facts in self.acts_of(obj, form.changed_data, change):
            _record(request, act, obj, facts)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        _record(request, "remove", obj, {})
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        for obj in queryset:
            _record(request, "remove", obj, {})
        super().delete_queryset(request, queryset)

    def acts_of(self, obj: Any, changed: list[str], change: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """What has been done to a row, as the trail names it."""
        yield "change" if change else "create", {"fields": changed}


@admin.register(Room)
class RoomAdmin(ModeratingAdmin):
    """The rooms and their rules."""

    list_display = ("title", "slug", "visibility", "owner", "slow_mode", "encrypted")
    list_filter = ("visibility", "encrypted")
    list_select_related = ("owner",)
    search_fields = ("title", "slug")
    raw_id_fields = ("owner",)

    def acts_of(self, obj: Any, changed: list[str], change: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        if not change:
            return
        if "owner" in changed:
            yield Act.HAND_OVER, {"role": "owner"}
        if "slow_mode" in changed:
            yield Act.SLOW, {"seconds": obj.slow_mode}
        others = sorted(set(changed) - {"owner", "slow_mode"})
        if others:
            yield "change", {name: getattr(obj, name) for name in others}


@admin.register(Membership)
class MembershipAdmin(ModeratingAdmin):
    """Who is what in which room."""

    list_display = ("user", "room", "role", "muted_until", "banned")
    list_filter = ("role", "banned")
    list_select_related = ("user", "room")
    search_fields = ("room__slug", "room__title")
    raw_id_fields = ("user", "room")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Field | None:
        """Name the two halves of a moment, to which Django gives no label that a screen reader could read."""
        field: Field | None = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, MultiWidget):
            for part, name in zip(field.widget.widgets, ("Date:", "Time:"), strict=True):
                part.attrs["aria-label"] = f"{field.label}, {of_django(name).rstrip(':')}"
        return field

    def acts_of(self, obj: Any, changed: list[str], change: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        if "role" in changed or not change:
            yield Act.PROMOTE, {"role": obj.role}
        if "muted_until" in changed:
            until = obj.muted_until
            yield (Act.UNMUTE, {}) if until is None else (Act.MUTE, {"until": until.isoformat()})
        if "banned" in changed:
            yield Act.BAN if obj.banned else Act.UNBAN, {}


def _decide(request: HttpRequest, view: Any) -> HttpResponse:
    """Take the lock of every change before anything is read: SQLite could not get it once the transaction has read."""
    if request.method != "POST":
        response: HttpResponse = view()
        return response
    with policy_change() as using:
        response = view()
        if response.status_code != HttpResponseRedirect.status_code:
            transaction.set_rollback(True, using=using)
    return response


def _record(request: HttpRequest, act: str, row: Any, facts: dict[str, Any]) -> None:
    is_room = isinstance(row, Room)
    room, user = (row, row.owner if act == Act.HAND_OVER else None) if is_room else (row.room, row.user)
    detail = {"room": room.slug, **facts}
    audit.write("room.moderated", act, user=user, actor=name_of(request.user), detail=detail)
