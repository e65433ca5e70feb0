"""Who makes an HTTP request: a Bearer token speaks for itself, a session only together with a CSRF token."""

from typing import Any

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from channels_secure.auth import simplejwt
from channels_secure.auth.base import Identity
from channels_secure.auth.offers import read_header
from channels_secure.policy.decisions import Denial, Reason


def identify(request: HttpRequest) -> Identity | Denial:
    """The identity behind a request; a Bearer token that is wrong is refused whatever cookie comes with it.

    Raises:
        django.db.Error: the database is away.
    """
    authorization = request.META.get("HTTP_AUTHORIZATION", "")
    bearer = _identify_bearer(authorization) if authorization else None
    return _identify_session(request) if bearer is None else bearer


def _identify_bearer(authorization: str) -> Identity | Denial | None:
    answer = simplejwt.identify_bearer(authorization)
    if answer is None and read_header(authorization, {"bearer"}) is not None:
        return Denial(reason=Reason.INVALID_CREDENTIALS, detail="bearer_not_accepted (header)")
    return answer


def _identify_session(request: HttpRequest) -> Identity | Denial:
    user, session = getattr(request, "user", None), getattr(request, "session", None)
    # Somebody whom no session logged in would get a socket that nothing ends.
    if user is None or session is None or not user.is_authenticated or SESSION_KEY not in session:
        return Denial(reason=Reason.UNAUTHENTICATED)
    if not getattr(user, "is_active", True):
        return Denial(reason=Reason.INVALID_CREDENTIALS, detail="user_inactive", ambient=True)
    fault = _csrf_fault(request)
    if fault is not None:
        return Denial(reason=Reason.PERMISSION_DENIED, detail=f"csrf: {fault}", message="The CSRF token is not valid.")
    return Identity(user=user, kind="session", session_key=session.session_key, ambient=True)


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, which answers with the reason instead of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _csrf_fault(request: HttpRequest) -> str | None:
    """Why Django's CSRF protection refuses a request, although the view is exempt from its middleware."""
    check = _CsrfCheck(_answer)
    check.process_request(request)
    # In the view's place stands a function that is not exempt.
    fault: Any = check.process_view(request, _answer, (), {})
    return None if fault is None else str(fault)


def _answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse()
