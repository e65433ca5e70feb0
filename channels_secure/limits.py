"""What applies to one consumer class: the settings, overridden by lower-case class attributes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from channels_secure.conf import CONSUMER_KEYS, KEYS, Settings
from channels_secure.policy.liveness import Deadlines
from channels_secure.policy.rates import Rate

# What `getattr` answers for an attribute that a class does not override; None is a value, it switches things off.
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of the sockets of one consumer class."""

    deadlines: Deadlines
    rates: Mapping[str, Rate]
    error_budget: Rate | None
    max_message_size: int
    max_message_depth: int
    allow_anonymous: bool
    send_hello: bool


def limits_of(settings: Settings, consumer: type | None = None) -> Limits:
    """The limits in force for a consumer class, or for consumers that are not ours when it is None.

    Raises:
        ValueError: an attribute of the class is not a value that the setting of the same name would take.
    """
    values = {key: getattr(settings, key) for key in CONSUMER_KEYS}
    for key in CONSUMER_KEYS:
        given = getattr(consumer, key, _ABSENT) if consumer is not None else _ABSENT
        if given is not _ABSENT:
            values[key] = _read(key, given, values[key])
    return Limits(
        deadlines=Deadlines(
            idle=values["idle_timeout"],
            # The clients of other consumers know nothing of our frames.
            heartbeat=values["heartbeat_interval"] if consumer is not None else None,
            heartbeat_timeout=values["heartbeat_timeout"],
            handler=values["handler_timeout"],
            send=values["send_timeout"],
            max_age=values["max_connection_age"],
            expiry_warning=settings.token_expiry_warning,
        ),
        rates=values["message_rates"],
        error_budget=values["error_budget"],
        max_message_size=values["max_message_size"],
        max_message_depth=values["max_message_depth"],
        allow_anonymous=values["allow_anonymous"],
        send_hello=values["send_hello"] and consumer is not None,
    )


def _read(key: str, given: Any, inherited: Any) -> Any:
    try:
        value = KEYS[key.upper()].reader(given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{key}: {error}") from None
    if key != "message_rates":
        return value
    # Only the keys that a class names change; a key it sets to None is switched off.
    return {name: rate for name, rate in inherited.items() if name not in given} | value
