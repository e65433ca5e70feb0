"""Checks of how users show who they are."""

from collections.abc import Iterator
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from channels_secure.auth.tickets import TicketAuthenticator
from channels_secure.checks import catalogue as found
from channels_secure.checks.settings import readable_settings

SESSION = "channels_secure.auth.session.SessionAuthenticator"
JWT = "channels_secure.auth.jwt.JWTAuthenticator"


def has_simplejwt() -> bool:
    try:
        import_module("rest_framework_simplejwt")
    except ImportError:
        return False
    return True


def takes_sessions() -> bool:
    """Whether handshakes may come with a session cookie."""
    settings = readable_settings()
    return settings is not None and (settings.authenticators is None or SESSION in settings.authenticators)


def takes_tokens() -> bool:
    """Whether handshakes may come with a JWT."""
    settings = readable_settings()
    if settings is None or not settings.token_sources or not has_simplejwt():
        return False
    return settings.authenticators is None or JWT in settings.authenticators


def simplejwt_setting(name: str, default: Any = None) -> Any:
    return (getattr(django_settings, "SIMPLE_JWT", None) or {}).get(name, default)


@register(Tags.security)
def check_authenticators(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Authenticators that cannot be used, and tokens that nobody reads."""
    settings = readable_settings()
    if settings is None:
        return []
    if settings.authenticators is None:
        is_mute = _names_token_sources() and not has_simplejwt()
        return [found.JWT_NOT_INSTALLED.report("TOKEN_SOURCES is set")] if is_mute else []
    return [message for path in settings.authenticators for message in _examine(path)]


def _examine(path: str) -> Iterator[CheckMessage]:
    if path == JWT and not has_simplejwt():
        yield found.JWT_NOT_INSTALLED.report("AUTHENTICATORS names JWTAuthenticator")
    elif fault := _fault(path):
        yield found.WRONG_AUTHENTICATOR.report(f"{path!r} {fault}")


def _names_token_sources() -> bool:
    return bool(getattr(django_settings, "CHANNELS_SECURE", {}).get("TOKEN_SOURCES"))


def _fault(path: str) -> str:
    try:
        authenticator = import_string(path)
    except ImportError as error:
        return f"cannot be imported ({error})"
    method = getattr(authenticator, "authenticate", None)
    if not callable(method):
        return "has no method `authenticate`"
    if not iscoroutinefunction(method):
        return "has an `authenticate` that is not async"
    try:
        authenticator()
    except TypeError as error:
        return f"cannot be made without arguments ({error})"
    return ""


@register(Tags.security)
def check_token_sources(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Tokens in URLs, and simplejwt settings that do not fit WebSockets."""
    settings = readable_settings()
    if settings is None or not takes_tokens():
        return []
    messages = []
    if "query" in settings.token_sources:
        messages.append(found.TOKEN_IN_QUERY.report())
    if simplejwt_setting("TOKEN_TYPE_CLAIM", "token_type") is None:
        messages.append(found.ANY_TOKEN_TYPE.report())
    if not _accepts_access_tokens():
        messages.append(found.NO_ACCESS_TOKEN_CLASS.report())
    header = simplejwt_setting("AUTH_HEADER_NAME", "HTTP_AUTHORIZATION")
    if "header" in settings.token_sources and header != "HTTP_AUTHORIZATION":
        messages.append(found.OTHER_HEADER.report(repr(header)))
    return messages


def _accepts_access_tokens() -> bool:
    from channels_secure.auth.jwt import access_token_classes

    try:
        return bool(access_token_classes())
    except ImportError:
        return True  # simplejwt names the class that it cannot import


@register(Tags.security)
def check_tickets(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """An endpoint that gives out what nobody takes. The other way round is fine: a project may issue tickets itself."""
    settings = readable_settings()
    if settings is None or settings.authenticators is None or any(map(_takes_tickets, settings.authenticators)):
        return []
    return [found.TICKETS_NOT_ACCEPTED.report()] if _gives_out_tickets() else []


def _takes_tickets(path: str) -> bool:
    try:
        authenticator = import_string(path)
    except ImportError:
        return False
    return isinstance(authenticator, type) and issubclass(authenticator, TicketAuthenticator)


def _gives_out_tickets() -> bool:
    try:
        reverse("channels_secure:ticket")
    except (NoReverseMatch, ImproperlyConfigured):
        # Django's own checks say what is wrong with the URLs.
        return False
    return True


@register(Tags.security)
def check_ambient_credentials(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Cookies where nothing shows who asked, and sessions that the server cannot end."""
    settings = readable_settings()
    if settings is None:
        return []
    messages = []
    is_ambient = takes_sessions() or (takes_tokens() and "cookie" in settings.token_sources)
    if settings.allow_missing_origin == "always" and is_ambient:
        messages.append(found.AMBIENT_WITHOUT_ORIGIN.report())
    if takes_sessions() and django_settings.SESSION_ENGINE == "django.contrib.sessions.backends.signed_cookies":
        messages.append(found.SIGNED_COOKIES.report())
    return messages
