"""The pages, what their forms do, and a token for one of them.

The room's page decides nothing: the socket says who may enter, and the page says why not.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from rest_framework_simplejwt.tokens import AccessToken

from channels_secure.exceptions import Denied
from channels_secure.rooms import membership
from chat.doors import door, doors
from chat.forms import MemberForm, RoomForm


def rooms(request: HttpRequest) -> HttpResponse:
    form = RoomForm(request.POST or None, owner=request.user if request.user.is_authenticated else None)
    if request.method == "POST":
        if not request.user.is_authenticated:
            raise PermissionDenied
        if form.is_valid():
            return redirect("room", form.save().slug)
    return render(request, "chat/rooms.html", {"doors": list(doors(request.user)), "form": form})


@never_cache
def room(request: HttpRequest, slug: str) -> HttpResponse:
    found = door(request.user, slug)
    return render(request, "chat/room.html", {"door": found, "room": found.room, "people": found.people()})


@login_required
@require_POST
def join(request: HttpRequest, slug: str) -> HttpResponse:
    with forbidden_where_denied():
        membership.join(door(request.user, slug).room, request.user)
    return redirect("room", slug)


@login_required
@require_POST
def leave(request: HttpRequest, slug: str) -> HttpResponse:
    with forbidden_where_denied():
        membership.leave(door(request.user, slug).room, request.user)
    return redirect("rooms")


@login_required
@require_POST
def add_member(request: HttpRequest, slug: str) -> HttpResponse:
    found, form = door(request.user, slug), MemberForm(request.POST)
    # Before the form, which says who exists.
    if not found.is_moderated:
        raise PermissionDenied
    if form.is_valid():
        with forbidden_where_denied():
            membership.add(found.room, form.cleaned_data["username"], by=request.user)
    for error in form.errors.get("username", []):
        messages.error(request, str(error))
    return redirect("room", slug)


@require_POST
@never_cache
def session_token(request: HttpRequest) -> HttpResponse:
    """Give an access token to whoever is logged in: for pages that hold tokens, and renew them in the socket."""
    if not request.user.is_authenticated:
        return JsonResponse({"detail": "Log in first."}, status=401)
    return JsonResponse({"access": str(AccessToken.for_user(request.user))})


@contextmanager
def forbidden_where_denied() -> Iterator[None]:
    """What a role does not allow is a 403, as it is `permission_denied` on the wire."""
    try:
        yield
    except Denied as error:
        raise PermissionDenied from error
