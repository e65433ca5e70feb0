"""The example's pages."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from channels_secure.asyncapi.views import AsyncAPIView
from chat import views

urlpatterns = [
    path("", views.rooms, name="rooms"),
    path("rooms/<slug:slug>/", views.room, name="room"),
    path("rooms/<slug:slug>/join/", views.join, name="join"),
    path("rooms/<slug:slug>/leave/", views.leave, name="leave"),
    path("rooms/<slug:slug>/members/", views.add_member, name="add-member"),
    path("wire/", AsyncAPIView.as_view(public=True, title="The chat’s wire"), name="wire"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("api/token/", TokenObtainPairView.as_view(), name="token"),
    path("api/token/refresh/", TokenRefreshView.as_view(), name="token-refresh"),
    path("api/session-token/", views.session_token, name="session-token"),
    path("ws-auth/", include("channels_secure.urls")),
    path("admin/", admin.site.urls),
]
