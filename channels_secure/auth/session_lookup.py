"""The sessions of many open sockets, looked up together and in the store: a session that is cached knows no logout.

Nothing is written, deleted or rotated.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.contrib.sessions.backends.cached_db import SessionStore as CachedRowStore
from django.contrib.sessions.backends.db import SessionStore as RowStore
from django.core.cache import caches
from django.db import router

from channels_secure.auth.session import load_session, session_store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A session as it is stored now, and the Unix time at which it ends."""

    data: Mapping[str, Any]
    expires_at: float


def look_up_sessions(keys: Collection[str]) -> dict[str, StoredSession]:
    """Those of some session keys that exist, by key; one query or one `get_many` where Django's own engines keep them.

    An engine that loads in a way of its own is asked for each, as a handshake would. Rows may have expired.

    Raises:
        Exception: whatever database, cache or engine raise while they are away.
    """
    store = session_store()
    if not keys:
        return {}
    if _keeps_rows(store):
        return _in_rows(store, keys)
    if _keeps_in_cache(store):
        return _in_cache(store, keys)
    return _one_by_one(keys)


def are_read_together() -> bool:
    """Whether the project's session engine can be asked for many sessions at once."""
    store = session_store()
    return _keeps_rows(store) or _keeps_in_cache(store)


def _keeps_rows(store: Any) -> bool:
    """The cache in front of rows is passed by: it may outlive a row that SQL has deleted."""
    loads = getattr(store, "load", None)
    find = "_get_session_from_db"
    has_own_find = getattr(store, find, None) is not getattr(RowStore, find)
    return loads in (RowStore.load, CachedRowStore.load) and not has_own_find


def _keeps_in_cache(store: Any) -> bool:
    return getattr(store, "load", None) is CacheStore.load and store.cache_key is CacheStore.cache_key


def _in_rows(store: Any, keys: Collection[str]) -> dict[str, StoredSession]:
    model = store.get_model_class()
    # The primary: a replica may lag behind a logout, and behind a login as well.
    rows = model.objects.using(router.db_for_write(model)).filter(session_key__in=list(keys))
    decode = store().decode
    return {
        key: StoredSession(data=decode(data), expires_at=ends.timestamp())
        for key, data, ends in rows.values_list("session_key", "session_data", "expire_date")
    }


def _in_cache(store: Any, keys: Collection[str]) -> dict[str, StoredSession]:
    prefix = store.cache_key_prefix
    found = caches[settings.SESSION_CACHE_ALIAS].get_many([prefix + key for key in keys])
    ends_of = store().get_expiry_date
    return {
        name[len(prefix) :]: StoredSession(
            data=data, expires_at=ends_of(expiry=data.get("_session_expiry")).timestamp()
        )
        for name, data in found.items()
    }


def _one_by_one(keys: Collection[str]) -> dict[str, StoredSession]:
    found = {}
    for key in keys:
        loaded = load_session(key)
        if loaded is not None:
            session, expires_at = loaded
            data = dict(session.items()) if SESSION_KEY in session else {}
            found[key] = StoredSession(data=data, expires_at=expires_at)
    return found
