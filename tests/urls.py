from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.urls import include, path

from channels_secure.admin.users import SecureUserAdminMixin


class People(SecureUserAdminMixin, UserAdmin):
    """Users as a project shows them that has read the documentation."""


admin.site.unregister(User)
admin.site.register(User, People)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("ws-auth/", include("channels_secure.urls")),
]
