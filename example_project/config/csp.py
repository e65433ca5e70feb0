"""A Content-Security-Policy for every page. Django 6.0 and later bring their own; this one serves 5.2 as well."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

# 'self' covers ws: and wss: of the page's own host and port (CSP Level 3, section 6.7.2.8).
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"


class ContentSecurityPolicyMiddleware(MiddlewareMixin):
    """Sends `POLICY` unless a view has sent its own."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
