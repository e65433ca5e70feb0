"""Where limits are counted: in this process, or in a store that several processes share."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from channels_secure.conf import get_settings
from channels_secure.stores.base import Store


@cache
def get_store() -> Store:
    """The store of this process, made at the first use.

    Raises:
        ImproperlyConfigured: the back-end cannot be imported or does not take its options.
    """
    return make(get_settings().store)


def make(options: Mapping[str, Any]) -> Store:
    """A store from the setting; none of them touches the network before it is used.

    Raises:
        ImproperlyConfigured: as in `get_store`; the message repeats no option, because they may hold a password.
    """
    arguments = {name.lower(): value for name, value in options.items() if name != "BACKEND"}
    try:
        store: Store = import_string(options["BACKEND"])(**arguments)
    except (ImportError, TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"CHANNELS_SECURE['STORE']: {error}") from error
    return store


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "CHANNELS_SECURE":
        get_store.cache_clear()


setting_changed.connect(_forget, dispatch_uid="channels_secure.stores")
