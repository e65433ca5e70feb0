"""Who comes to the tests, and what they carry: users, sessions and tokens that must show up nowhere."""

import base64
import json
import time
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import uuid4

import jwt
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import User
from django.utils import timezone

from channels_secure.auth.base import digest_of
from channels_secure.auth.tickets import issue_ticket
from channels_secure.models import Ticket


class World:
    """Alice, Bob, inactive Carol and deleted Dave; every secret handed out is remembered in `secrets`."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.alice, self.bob = self._user("conformance-alice"), self._user("conformance-bob")
        self.carol = self._user("conformance-carol", is_active=False)
        self.dave = self._user("conformance-dave")
        self.deleted_id = self.dave.pk

    def _user(self, name: str, **fields: Any) -> User:
        user, is_new = get_user_model().objects.get_or_create(username=name, defaults=fields)
        if is_new:
            user.set_password("correct horse")
            user.save()
        return user

    def delete_dave(self) -> None:
        get_user_model().objects.filter(username="conformance-dave").delete()

    def session(self, user: User, **values: Any) -> dict[str, str]:
        """The cookie of a fresh session, as Django's `login()` makes it."""
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        session[SESSION_KEY] = user._meta.pk.value_to_string(user)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        for name, value in values.items():
            session[name] = value
        session.save()
        self.secrets.add(session.session_key)
        return {settings.SESSION_COOKIE_NAME: session.session_key}

    def claims(self, user: User, **changes: Any) -> dict[str, Any]:
        """The claims of simplejwt's access token; a claim set to `...` is left out."""
        now = int(time.time())
        ordinary = {"token_type": "access", "exp": now + 300, "iat": now, "jti": uuid4().hex, "user_id": str(user.pk)}
        return {name: value for name, value in (ordinary | changes).items() if value is not ...}

    def token(self, user: User | None = None, *, key: Any = None, algorithm: str = "HS256", **changes: Any) -> str:
        """A token signed with the project's key unless another is given."""
        claims = self.claims(user or self.alice, **changes)
        signing_key = settings.SECRET_KEY if key is None else key
        return self.keep(jwt.encode(claims, signing_key, algorithm=algorithm))

    def ticket(self, user: User | None = None, **options: Any) -> str:
        """A ticket as the endpoint gives it out."""
        return self.keep(issue_ticket(user or self.alice, **options))

    def expired_ticket(self) -> str:
        ticket = self.ticket()
        past = timezone.now() - timedelta(milliseconds=1)
        assert Ticket.objects.filter(digest=digest_of(ticket)).update(expires_at=past) == 1
        return ticket

    def visitor(self) -> User:
        """Somebody whom no other case meets, so that a case may change him."""
        return self._user(f"conformance-{uuid4().hex[:12]}")

    def forge(self, header: Any, claims: Any, signature: bytes = b"") -> str:
        """A token of any parts, which need not fit."""
        parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
        return self.keep(".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts))

    def sign_text(self, payload: str) -> str:
        """A valid signature over a payload that `json.dumps` would not write."""
        return self.keep(jwt.PyJWS().encode(payload.encode(), settings.SECRET_KEY, algorithm="HS256"))

    def keep(self, secret: str) -> str:
        self.secrets.add(secret)
        return secret
