"""Two pages. They show nothing that needs a login: the socket decides who may enter, and the page says why."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from chat.models import Room


def rooms(request: HttpRequest) -> HttpResponse:
    return render(request, "chat/rooms.html", {"rooms": Room.objects.all()})


def room(request: HttpRequest, slug: str) -> HttpResponse:
    return render(request, "chat/room.html", {"room": get_object_or_404(Room, slug=slug)})
