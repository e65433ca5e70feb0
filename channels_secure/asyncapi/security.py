"""How clients may show who they are, as AsyncAPI's security schemes: what the settings enable, and nothing else."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.conf import settings as django_settings

from channels_secure.admission import authenticators
from channels_secure.auth.offers import TICKET_PARAMETER
from channels_secure.auth.session import SessionAuthenticator
from channels_secure.auth.subprotocols import BEARER_PREFIX, SUBPROTOCOL, TICKET_PREFIX
from channels_secure.auth.tickets import TicketAuthenticator
from channels_secure.conf import Settings

Scheme = dict[str, Any]
_PROTOCOL_HEADER = "Sec-WebSocket-Protocol"


def takes_tokens() -> bool:
    """Whether one of the project's authenticators judges access tokens."""
    return any(hasattr(each, "verify_token") for each in authenticators())


def schemes(settings: Settings) -> dict[str, Scheme]:
    """The security schemes by name.

    An authenticator of the project's own says in an attribute `security_schemes`, a mapping from names to Security
    Scheme Objects, how it is used; one that does not is left out.
    """
    found: dict[str, Scheme] = {}
    for each in authenticators():
        own: Mapping[str, Scheme] | None = getattr(each, "security_schemes", None)
        if own is not None:
            found.update(own)
        elif isinstance(each, SessionAuthenticator):
            found["session"] = _key("cookie", django_settings.SESSION_COOKIE_NAME, "The session of a logged-in user.")
        elif isinstance(each, TicketAuthenticator):
            found.update(_tickets())
        elif hasattr(each, "verify_token"):
            found.update((f"token_{source}", _SOURCES[source](settings)) for source in settings.token_sources)
    return dict(sorted(found.items()))


def query(settings: Settings) -> dict[str, Any] | None:
    """The query parameters of a handshake that carry credentials, as a schema; None where there are none."""
    named = {
        scheme["name"]: {"type": "string", "description": scheme["description"]}
        for scheme in schemes(settings).values()
        if scheme.get("in") == "query"
    }
    return {"type": "object", "properties": named} if named else None


def _tickets() -> Iterator[tuple[str, Scheme]]:
    yield "ticket_query", _key("query", TICKET_PARAMETER, "A ticket, which is used once.")
    words = f"A ticket, which is used once: {TICKET_PREFIX}<ticket>, offered beside {SUBPROTOCOL}."
    yield "ticket_subprotocol", _key("header", _PROTOCOL_HEADER, words)


def _header(settings: Settings) -> Scheme:
    return {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token in the Authorization header.",
    }


def _subprotocol(settings: Settings) -> Scheme:
    words = f"An access token: {BEARER_PREFIX}<token>, offered beside {SUBPROTOCOL}."
    return _key("header", _PROTOCOL_HEADER, words)


def _cookie(settings: Settings) -> Scheme:
    return _key("cookie", settings.token_cookie_name, "An access token in a cookie.")


def _query(settings: Settings) -> Scheme:
    return _key("query", settings.token_query_name, "An access token in the URL.")


_SOURCES: Mapping[str, Callable[[Settings], Scheme]] = {
    "header": _header,
    "subprotocol": _subprotocol,
    "cookie": _cookie,
    "query": _query,
}


def _key(place: str, name: str, description: str) -> Scheme:
    return {"type": "httpApiKey", "name": name, "in": place, "description": description}
