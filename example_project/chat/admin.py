from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User

from channels_secure.admin.users import SecureUserAdminMixin
from chat.models import Room

admin.site.register(Room)
admin.site.unregister(User)


@admin.register(User)
class ChatUserAdmin(SecureUserAdminMixin, UserAdmin):  # type: ignore[type-arg]
    """Django's own page of users, with what their WebSockets do."""
