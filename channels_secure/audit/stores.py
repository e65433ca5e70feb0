"""Records when a shared store went away and when it came back, once for each change and process."""

from typing import Any

from channels_secure.audit.recorder import record
from channels_secure.signals import store_degraded, store_recovered


def _degraded(store: str, error: str, **_: Any) -> None:
    record("store.degraded", detail={"store": store, "error": error})


def _recovered(store: str, **_: Any) -> None:
    record("store.recovered", detail={"store": store})


store_degraded.connect(_degraded, dispatch_uid="channels_secure.audit")
store_recovered.connect(_recovered, dispatch_uid="channels_secure.audit")
