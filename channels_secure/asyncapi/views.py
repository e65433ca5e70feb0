"""The page that describes the wire, and the document behind it."""

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import View

from channels_secure.asyncapi.document import TITLE, VERSION, document
from channels_secure.asyncapi.page import Page
from channels_secure.asyncapi.project import application, as_json
from channels_secure.asyncapi.schemas import Undescribable
from channels_secure.consumers.handlers import BadDeclaration


# Who may see it is decided here, by `public` or for the staff: not by LoginRequiredMiddleware.
@method_decorator([login_not_required, never_cache], name="dispatch")
class AsyncAPIView(View):
    """Shows the AsyncAPI document to the staff, as a page or with ``?format=json`` as it is.

    ``AsyncAPIView.as_view(public=True)`` shows it to everybody, ``source=[ChatConsumer]`` only these consumers.
    """

    public = False
    source: Any = None
    title = TITLE
    version = VERSION
    template_name = "channels_secure/asyncapi.html"

    def may_see(self, request: HttpRequest) -> bool:
        """Whether the page is for whoever asks."""
        user = getattr(request, "user", None)
        return self.public or (user is not None and user.is_active and user.is_staff)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if self.may_see(request):
            return super().dispatch(request, *args, **kwargs)
        user = getattr(request, "user", None)
        if user is None or user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.get_full_path())

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            source = application() if self.source is None else self.source
            found = document(source, title=self.title, version=self.version)
        except (Undescribable, BadDeclaration) as error:
            return render(request, self.template_name, {"problem": self._problem(request, error)}, status=500)
        if request.GET.get("format") == "json":
            text = as_json(found).encode("utf-8", "backslashreplace")
            return HttpResponse(text, content_type="application/json")
        return render(request, self.template_name, {"page": Page(found)})

    @staticmethod
    def _problem(request: HttpRequest, error: Exception) -> str:
        """What is wrong, for those who can do something about it; an empty text for others."""
        user = getattr(request, "user", None)
        return str(error) if user is not None and user.is_active and user.is_staff else ""
