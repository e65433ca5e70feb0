"""What Django's own signals mean for open sockets: logout, a new password, a user deactivated or deleted, other rights.

Nothing here raises into the project's request: what cannot be told to the sockets is logged, and found by
re-validation.
"""

import logging
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models import signals

from channels_secure.auth.base import digest_of
from channels_secure.models import RECHECK, Revocation, policy_change
from channels_secure.policy.decisions import Reason
from channels_secure.revocation.rows import insert

logger = logging.getLogger("channels_secure")

Kind = Revocation.Kind

# The fields that decide what a user may do. Projects with others call `connections.recheck()`.
WATCHED = ("password", "is_active", "is_staff", "is_superuser")
# What the fields were when the object was made or last saved, kept on the object.
_REMEMBERED = "_channels_secure_watched"
_COOKIES = "django.contrib.sessions.backends.signed_cookies"


def connect() -> None:
    """Connect the receivers, once all models are known; a check says so where there is no user model."""
    if not apps.is_installed("django.contrib.auth"):
        return
    user_logged_out.connect(_logged_out, dispatch_uid="channels_secure.receivers")
    users = get_user_model()
    # By sender: Django deletes rows of a model that nobody listens to in one query.
    for model in apps.get_models():
        if issubclass(model, users):
            for signal, receiver in (
                (signals.post_init, _remember),
                (signals.post_save, _saved),
                (signals.post_delete, _deleted),
            ):
                signal.connect(receiver, sender=model, dispatch_uid="channels_secure.receivers")
    for name in ("groups", "user_permissions"):
        through = getattr(getattr(users, name, None), "through", None)
        if through is not None:
            signals.m2m_changed.connect(_rights_changed, sender=through, dispatch_uid="channels_secure.receivers")


def _quietly(receiver: Callable[..., None]) -> Callable[..., None]:
    @wraps(receiver)
    def call(*args: Any, **facts: Any) -> None:
        try:
            receiver(*args, **facts)
        except Exception:
            logger.exception("revocation.failed", extra={"receiver": receiver.__name__})

    return call


@_quietly
def _logged_out(request: Any, **_: Any) -> None:
    """End the sockets of this one session; Django flushes it after this signal, so handshakes refuse it from now on."""
    session = getattr(request, "session", None)
    key = getattr(session, "session_key", None)
    # Whoever is nobody has no socket that ends with a session: strangers must not make changes of policy.
    if key and session is not None and SESSION_KEY in session:
        # A signed cookie stays good until it expires, whoever has kept a copy.
        lifetime = settings.SESSION_COOKIE_AGE if settings.SESSION_ENGINE == _COOKIES else 0.0
        _after_commit(None, Kind.SESSION, digest_of(key), Reason.SESSION_ENDED, lifetime)


@_quietly
def _remember(instance: Any, **_: Any) -> None:
    # From `__dict__`: a deferred field must not be fetched.
    vars(instance)[_REMEMBERED] = {name: vars(instance)[name] for name in WATCHED if name in vars(instance)}


@_quietly
def _saved(instance: Any, created: bool, using: str, raw: bool, update_fields: Any = None, **_: Any) -> None:
    """Have the user's sockets looked at again when a field that matters has changed.

    Compared with what was loaded, so that a project that saves its users all the time makes no change of policy.
    """
    before, saved = vars(instance).get(_REMEMBERED, {}), WATCHED if update_fields is None else update_fields
    now = {name: vars(instance)[name] for name in WATCHED if name in saved and name in vars(instance)}
    if created or raw or all(before.get(name) == value for name, value in now.items()):
        vars(instance)[_REMEMBERED] = {**before, **now}
        return
    # Unknown until the commit: whoever tries again after a rollback saves the same object.
    vars(instance)[_REMEMBERED] = {name: value for name, value in before.items() if name not in now}
    _after_commit(using, Kind.USER, str(instance.pk), RECHECK, saved=(instance, now))


@_quietly
def _deleted(instance: Any, using: str, **_: Any) -> None:
    _after_commit(using, Kind.USER, str(instance.pk), Reason.SESSION_ENDED)


@_quietly
def _rights_changed(instance: Any, action: str, reverse: bool, pk_set: Any, using: str, **_: Any) -> None:
    if action not in ("post_add", "post_remove", "post_clear" if not reverse else "pre_clear"):
        return
    if not reverse:
        users: Iterable[Any] = [instance.pk]
    elif action == "pre_clear":
        # Afterwards nobody knows any more who they were.
        field = "groups" if isinstance(instance, apps.get_model("auth", "Group")) else "user_permissions"
        users = get_user_model()._base_manager.using(using).filter(**{field: instance}).values_list("pk", flat=True)
    else:
        users = pk_set or ()
    for pk in users:
        _after_commit(using, Kind.USER, str(pk), RECHECK)


class _Batch:
    """What one transaction changes, told at once after its commit."""

    def __init__(self, kind: Revocation.Kind, reason: str, lifetime: float) -> None:
        self.facts = (kind, reason, lifetime)
        self.subjects: dict[str, None] = {}
        # Users, with what has been stored of them.
        self.saved: list[tuple[Any, dict[str, Any]]] = []

    def add(self, subject: str, saved: tuple[Any, dict[str, Any]] | None) -> None:
        self.subjects[subject] = None
        if saved is not None:
            self.saved.append(saved)

    def __call__(self) -> None:
        for instance, now in self.saved:
            vars(instance)[_REMEMBERED] = {**vars(instance).get(_REMEMBERED, {}), **now}
        kind, reason, lifetime = self.facts
        try:
            with policy_change() as using:
                insert(kind, self.subjects, reason, using=using, lifetime=lifetime)
        except Exception:
            logger.exception("revocation.failed", extra={"kind": kind, "reason": reason})


def _after_commit(
    using: str | None,
    kind: Revocation.Kind,
    subject: str,
    reason: str,
    lifetime: float = 0.0,
    saved: tuple[Any, dict[str, Any]] | None = None,
) -> None:
    """Have a row made; thousands that belong to one transaction are one change of policy."""
    connection = transaction.get_connection(using)
    # The last entry of the running savepoint; one of another is undone when that is.
    savepoints, last = (*connection.run_on_commit[-1][:2],) if connection.run_on_commit else (None, None)
    is_running = savepoints == set(connection.savepoint_ids)
    if is_running and isinstance(last, _Batch) and last.facts == (kind, reason, lifetime):
        last.add(subject, saved)
        return
    batch = _Batch(kind, reason, lifetime)
    batch.add(subject, saved)
    transaction.on_commit(batch, using=using)
