"""The export of what the list of events shows: by POST, for who has the permission, and never unseen."""

from datetime import UTC, datetime
from typing import Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBadRequest, HttpResponseNotAllowed, StreamingHttpResponse
from django.http.response import HttpResponseBase

from channels_secure.admin.operators import client_address, may_export
from channels_secure.audit import exporting
from channels_secure.audit.formats import Format


def export(admin: "ModelAdmin[Any]", request: HttpRequest) -> HttpResponseBase:
    """Answer with the rows that the list shows for the same query string, in the format that the form names.

    Raises:
        PermissionDenied: who asks may not see the trail, or not export it.
    """
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not (admin.has_view_permission(request) and may_export(request)):
        raise PermissionDenied
    try:
        chosen: Any = admin.get_changelist_instance(request)
        shape = Format(request.POST.get("format", ""))
    except (IncorrectLookupParameters, ValueError):
        return HttpResponseBadRequest("This cannot be exported.", content_type="text/plain")
    if chosen.faults:
        return HttpResponseBadRequest("\n".join(chosen.faults), content_type="text/plain; charset=utf-8")
    begun = exporting.begin(
        chosen.queryset,
        shape,
        filters=_filters(request, chosen),
        user=request.user,
        actor=request.user.get_username(),
        ip=client_address(request),
        path=request.path,
        user_agent=request.headers.get("User-Agent", ""),
    )
    # Django collects a synchronous iterator whole under ASGI, and an asynchronous one under WSGI.
    pieces: Any = aiter(begun) if isinstance(request, ASGIRequest) else iter(begun)
    name = f"audit-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{shape}"
    return StreamingHttpResponse(
        pieces,
        content_type=shape.content_type,
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )


def _filters(request: HttpRequest, chosen: Any) -> dict[str, str]:
    """How the rows were chosen, for the trail; and how far back it was looked, where older rows were not."""
    asked = {name: value for name, value in request.GET.items() if isinstance(value, str)}
    return {**asked, "looked_until": chosen.horizon[0].isoformat()} if chosen.horizon else asked
