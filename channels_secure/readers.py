"""Readers of setting values: each returns what a project wrote, typed, or raises ValueError in plain words."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from channels_secure.policy.decisions import Reason
from channels_secure.policy.rates import Rate

T = TypeVar("T")


def optional(reader: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """None, or what `reader` reads."""
    return lambda value: None if value is None else reader(value)


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be True or False, not {value!r}")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a non-empty string, not {value!r}")
    return value


def secret(value: Any) -> str:
    """A non-empty string that no message repeats."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a non-empty string, not {type(value).__name__}")
    return value


def secrets(value: Any) -> tuple[str, ...]:
    """A secret, or several with the newest first, or None for none."""
    if value is None:
        return ()
    return tuple(secret(item) for item in value) if isinstance(value, list | tuple) else (secret(value),)


def strings(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"must be a list of strings, not {value!r}")
    return list(value)


def choice(*allowed: str) -> Callable[[Any], str]:
    """One of a few words."""

    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(map(repr, allowed))}, not {value!r}")
        return str(value)

    return read


def subset(*allowed: str) -> Callable[[Any], tuple[str, ...]]:
    """Any of a few words, each once, in the project's order."""

    def read(value: Any) -> tuple[str, ...]:
        words = strings(value)
        for word in words:
            choice(*allowed)(word)
        return tuple(dict.fromkeys(words))

    return read


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"must be a whole number of at least 1, not {value!r}")
    return value


def whole_between(low: int, high: int) -> Callable[[Any], int]:
    """A whole number within bounds, both included."""

    def read(value: Any) -> int:
        if not low <= whole(value) <= high:
            raise ValueError(f"must be between {low} and {high}, not {value!r}")
        return int(value)

    return read


def seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError(f"must be a number of seconds above 0, not {value!r}")
    return float(value)


def share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"must be a number from 0 to 1, not {value!r}")
    return float(value)


def durations(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"must be a list of at least one number of seconds, not {value!r}")
    return tuple(seconds(item) for item in value)


def rates(*names: str) -> Callable[[Any], dict[str, Rate]]:
    """A rate for each of a few keys; a key set to None is switched off."""

    def read(value: Any) -> dict[str, Rate]:
        return {name: Rate.parse(rate) for name, rate in _known(value, names).items() if rate is not None}

    return read


def limits(*names: str) -> Callable[[Any], dict[str, int]]:
    """A whole number for each of a few keys; a key set to None is switched off."""

    def read(value: Any) -> dict[str, int]:
        return {name: whole(limit) for name, limit in _known(value, names).items() if limit is not None}

    return read


def _known(value: Any, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a dict with the keys {', '.join(map(repr, names))}, not {value!r}")
    for name in value:
        if name not in names:
            raise ValueError(f"unknown key {name!r}: use {', '.join(map(repr, names))}")
    return value


def store(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not isinstance(value.get("BACKEND"), str):
        # LOCATION may hold a password.
        raise ValueError("must be a dict whose BACKEND is a dotted path")
    return dict(value)


def close_codes(value: Any) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a dict of reason to close code, not {value!r}")
    for reason, code in value.items():
        if reason not in {member.value for member in Reason}:
            raise ValueError(f"unknown reason {reason!r}")
        if isinstance(code, bool) or not isinstance(code, int) or not _may_be_sent(code):
            raise ValueError(f"{code!r} is not a close code that may be sent (RFC 6455 section 7.4)")
    return {str(reason): code for reason, code in value.items()}


def _may_be_sent(code: int) -> bool:
    # RFC 6455 section 7.4.1: 1004-1006 and 1015 never appear in a close frame.
    return 3000 <= code <= 4999 or code in {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
