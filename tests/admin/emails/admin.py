from django.contrib import admin

from channels_secure.admin.users import SecureUserAdminMixin
from tests.admin.emails.models import Person


@admin.register(Person)
class PersonAdmin(SecureUserAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("email",)
    fields = ("email", "is_active")
