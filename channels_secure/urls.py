"""The package's HTTP endpoints: ``path("ws-auth/", include("channels_secure.urls"))``."""

from django.urls import path

from channels_secure import devices, views
from channels_secure.asyncapi.views import AsyncAPIView

app_name = "channels_secure"
urlpatterns = [
    path("ticket/", views.ticket, name="ticket"),
    path("asyncapi/", AsyncAPIView.as_view(), name="asyncapi"),
    path("connections/", devices.connections, name="connections"),
    path("connections/<str:connection_id>/", devices.connection, name="connection"),
]
