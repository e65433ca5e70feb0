"""Admins of users as projects have them: Django's own, one that has its fieldsets, proxies, and tables of others."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db import models
from django.http import HttpRequest
from django.urls import path

from channels_secure.admin import AuditEventAdmin, BlockAdmin, LiveConnectionAdmin
from channels_secure.admin.users import SecureUserAdminMixin
from channels_secure.models import AuditEvent, Block, LiveConnection


class Member(User):
    """A proxy, as projects make for a page of its own."""

    class Meta:
        proxy = True
        app_label = "messages"  # an installed app without tables


class Account(models.Model):
    """The users' table as another model that knows neither names nor passwords."""

    email = models.EmailField()

    class Meta:
        managed = False
        db_table = "auth_user"
        app_label = "messages"  # an installed app without tables

    def __str__(self) -> str:
        return self.email


class Entries(admin.TabularInline):
    model = LogEntry
    extra = 0


class PlainUserAdmin(SecureUserAdminMixin, UserAdmin):
    """Nothing but the mixin."""


class MemberAdmin(SecureUserAdminMixin, UserAdmin):
    """One with fieldsets, inlines, read-only fields, actions and media of its own, which has chosen its parts."""

    fieldsets = (
        ("Person", {"fields": (("username", "email"), "date_joined", "shout")}),
        ("Sockets", {"fields": ("websocket_connections",)}),
    )
    readonly_fields = ("shout", "date_joined")
    inlines = (Entries,)
    actions = ("cheer",)

    class Media:
        css = {"all": ("members.css",)}

    @admin.action(description="Cheer")
    def cheer(self, request: HttpRequest, queryset: Any) -> None:
        self.message_user(request, "Hooray")

    def shout(self, member: Member) -> str:
        return member.username.upper()


class AccountAdmin(SecureUserAdminMixin, admin.ModelAdmin):
    """A plain `ModelAdmin` without fieldsets, whose list has no actions."""

    actions = None
    fields = ("email",)


# Django's own class, or the one of a theme that has another.
Site = admin.site.__class__

site = Site(name="admin")
site.register(User, PlainUserAdmin)
site.register(Member, MemberAdmin)
site.register(Account, AccountAdmin)
site.register(Block, BlockAdmin)
site.register(AuditEvent, AuditEventAdmin)
site.register(LiveConnection, LiveConnectionAdmin)

# A site of the project's own, on which nothing of ours is registered.
bare = Site(name="office")
bare.register(User, PlainUserAdmin)

urlpatterns = [path("admin/", site.urls), path("office/", bare.urls)]
