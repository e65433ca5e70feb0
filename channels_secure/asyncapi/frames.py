"""The package's own frames, as types to describe them by; the tests hold them against what is sent."""

import msgspec
from msgspec import UNSET, UnsetType

from channels_secure.policy.decisions import Reason


class FieldError(msgspec.Struct):
    """One thing wrong with a message."""

    path: str
    message: str


class ErrorFrame(msgspec.Struct, tag="error", tag_field="type"):
    """A refusal: of one message, or before a close if it is fatal."""

    code: Reason
    message: str
    fatal: bool
    # Seconds after which another attempt can succeed.
    retry_after: float | UnsetType = UNSET
    errors: list[FieldError] | UnsetType = UNSET
    ref: str | int | UnsetType = UNSET
    reconnect: bool | UnsetType = UNSET


class Hello(msgspec.Struct, tag="hello", tag_field="type"):
    """The first frame of a socket that was let in; times are in seconds, the size is in bytes of UTF-8."""

    connection_id: str
    heartbeat_interval: float | None
    max_message_size: int
    expires_in: int | None


class TokenExpiring(msgspec.Struct, tag="token_expiring", tag_field="type"):
    """The credential ends in so many seconds."""

    expires_in: int


class TokenRefreshed(msgspec.Struct, tag="token_refreshed", tag_field="type"):
    """The answer to `refresh_token`: the seconds until the socket ends, null if nothing ends it."""

    expires_in: int | None
    ref: str | int | UnsetType = UNSET


class Heartbeat(msgspec.Struct, tag="ping", tag_field="type"):
    """The server asks whether the client is there; any frame is an answer, `pong` the usual one."""


class HeartbeatAnswer(msgspec.Struct, tag="pong", tag_field="type"):
    """The answer to the client's `ping`."""

    ref: str | int | UnsetType = UNSET
