"""Checks of what keeps the audit trail: its key, and the folder of its spool."""

import os
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Tags, register

from channels_secure.checks import catalogue as found
from channels_secure.checks.settings import readable_settings

# RFC 2104 section 3: a key shorter than the hash is weaker than the hash; 32 characters may hold as many bytes.
SHORTEST_KEY = 32
# Folders whose files web servers give to everybody.
SERVED = ("MEDIA_ROOT", "STATIC_ROOT")


@register(Tags.security)
def check_spool(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """A spool that cannot be written, and one that others can read or write. Nothing is made: checks only look."""
    settings = readable_settings()
    if settings is None or settings.audit_spool_dir is None:
        return []
    folder = Path(settings.audit_spool_dir)
    fault = _fault(folder)
    if fault:
        return [found.WRONG_SPOOL.report(fault)]
    return [found.SPOOL_IN_VIEW.report(view) for view in _views(folder)]


@register(Tags.security, deploy=True)
def check_key(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """No key, or one that can be guessed or that others have."""
    settings = readable_settings()
    if settings is None:
        return []
    if not settings.audit_key:
        return [found.NO_AUDIT_KEY.report()]
    newest = settings.audit_key[0]
    if newest == django_settings.SECRET_KEY:
        return [found.WEAK_AUDIT_KEY.report("is the SECRET_KEY, which more people and programs have")]
    if len(newest) < SHORTEST_KEY:
        return [found.WEAK_AUDIT_KEY.report(f"has fewer than {SHORTEST_KEY} characters")]
    return []


def _fault(folder: Path) -> str:
    if find_spec("fcntl") is None:
        return "is set, but this platform has no locks of files (flock) that end with their process"
    if not folder.is_absolute():
        return f"is not an absolute path: {str(folder)!r}"
    # Path.exists() raises where this user may not look.
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110
    if not nearest.is_dir():
        return f"leads through a file: {str(nearest)!r}"
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return f"cannot be written: {str(folder)!r}" if nearest == folder else f"cannot be made in {str(nearest)!r}"
    if nearest == folder and folder.stat().st_mode & stat.S_IWOTH:
        return f"can be written by everybody on this machine, who could spool events of their own: {str(folder)!r}"
    return ""


def _views(folder: Path) -> Iterator[str]:
    if folder.is_dir() and folder.stat().st_mode & (stat.S_IROTH | stat.S_IXOTH):
        yield "can be read by everybody on this machine"
    for name in SERVED:
        root = getattr(django_settings, name, None)
        if root and folder.resolve().is_relative_to(Path(root).resolve()):
            yield f"lies in {name}"
