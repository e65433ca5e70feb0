"""`DATABASE_URL` in Django's terms."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# Writers queue for the lock instead of failing half-way through, and readers never wait for them.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
}


def database(url: str) -> dict[str, Any]:
    """The `DATABASES` entry of `sqlite:///relative`, `sqlite:////absolute` or `postgresql://user:password@host:port/name`.

    `?host=/run/postgresql` names a UNIX socket. Raises ValueError for any other scheme.
    """
    parts = urlsplit(url)
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": SQLITE_OPTIONS}
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ValueError("DATABASE_URL starts with sqlite:// or postgresql://")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or parse_qs(parts.query).get("host", [""])[0],
        "PORT": str(parts.port or ""),
    }
