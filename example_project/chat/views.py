"""Two pages, and a token for one of them.

The pages show nothing that needs a login: the socket decides who may enter, and the page says why.
"""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from rest_framework_simplejwt.tokens import AccessToken

from chat.models import Room


def rooms(request: HttpRequest) -> HttpResponse:
    return render(request, "chat/rooms.html", {"rooms": Room.objects.all()})


def room(request: HttpRequest, slug: str) -> HttpResponse:
    return render(request, "chat/room.html", {"room": get_object_or_404(Room, slug=slug)})


@require_POST
@never_cache
def session_token(request: HttpRequest) -> HttpResponse:
    """Give an access token to whoever is logged in: for pages that hold tokens, and renew them in the socket."""
    if not request.user.is_authenticated:
        return JsonResponse({"detail": "Log in first."}, status=401)
    return JsonResponse({"access": str(AccessToken.for_user(request.user))})
