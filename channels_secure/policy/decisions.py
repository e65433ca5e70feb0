"""The one table of refusals: reason, close code, HTTP status, whether to reconnect, and the words for people.

Close codes below 3000 are never sent: Daphne raises on most of them (RFC 6455 section 7.4.2 leaves 4000-4999 to
applications). Documentation, checks and tests are derived from `RULES`; there is no second list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

Reconnect = Literal["yes", "later", "no"]


class Reason(StrEnum):
    """Why something was refused or closed; the slug goes on the wire and into the audit trail."""

    WSS_REQUIRED = "wss_required"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    ORIGIN_MISSING = "origin_missing"
    ORIGIN_MALFORMED = "origin_malformed"
    BLOCKED = "blocked"
    UNAUTHENTICATED = "unauthenticated"
    INVALID_CREDENTIALS = "invalid_credentials"
    AMBIGUOUS_CREDENTIALS = "ambiguous_credentials"
    CREDENTIALS_EXPIRED = "credentials_expired"
    CREDENTIALS_REVOKED = "credentials_revoked"
    SESSION_ENDED = "session_ended"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    BAD_REQUEST = "bad_request"
    UNAVAILABLE = "unavailable"
    CONNECTION_LIMIT = "connection_limit"
    CONNECTION_REPLACED = "connection_replaced"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_ERRORS = "too_many_errors"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_TYPE = "unknown_type"
    UNSUPPORTED_DATA = "unsupported_data"
    MESSAGE_TOO_BIG = "message_too_big"
    HEARTBEAT_TIMEOUT = "heartbeat_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    SLOW_CONSUMER = "slow_consumer"
    DISCONNECTED = "disconnected"
    INTERNAL_ERROR = "internal_error"
    HANDLER_TIMEOUT = "handler_timeout"
    SERVER_RESTART = "server_restart"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one reason looks on the wire. `status` is None where only an open socket can be closed for it.

    `answerable` reasons may be the answer to a single message while the socket stays open.
    """

    close: int
    status: int | None
    reconnect: Reconnect
    message: str
    answerable: bool = False


RULES: Mapping[Reason, Rule] = {
    Reason.WSS_REQUIRED: Rule(4403, 403, "no", "Use wss://: this server accepts encrypted connections only."),
    Reason.ORIGIN_NOT_ALLOWED: Rule(4403, 403, "no", "Connections from this website are not allowed."),
    Reason.ORIGIN_MISSING: Rule(4403, 403, "no", "An Origin header is required with these credentials."),
    Reason.ORIGIN_MALFORMED: Rule(4403, 403, "no", "The Origin header is not valid."),
    Reason.BLOCKED: Rule(4423, 403, "no", "Access is blocked."),
    Reason.UNAUTHENTICATED: Rule(4401, 401, "no", "Log in to connect."),
    Reason.INVALID_CREDENTIALS: Rule(4401, 401, "no", "The credentials are not valid.", True),
    Reason.AMBIGUOUS_CREDENTIALS: Rule(4401, 400, "no", "The request carries credentials of different users."),
    Reason.CREDENTIALS_EXPIRED: Rule(4419, 401, "yes", "The credentials have expired.", True),
    Reason.CREDENTIALS_REVOKED: Rule(4401, None, "no", "The credentials were revoked."),
    Reason.SESSION_ENDED: Rule(4401, None, "yes", "The session has ended."),
    Reason.PERMISSION_DENIED: Rule(4403, 403, "no", "This is not permitted.", True),
    Reason.NOT_FOUND: Rule(4404, 404, "no", "There is nothing at this address.", True),
    Reason.BAD_REQUEST: Rule(4400, 400, "no", "The request is not valid.", True),
    Reason.UNAVAILABLE: Rule(4503, 503, "later", "The service is not available at the moment.", True),
    Reason.CONNECTION_LIMIT: Rule(4409, 429, "later", "There are too many open connections."),
    Reason.CONNECTION_REPLACED: Rule(4409, None, "no", "A newer connection has replaced this one."),
    Reason.RATE_LIMITED: Rule(4429, 429, "later", "Too many requests: slow down.", True),
    Reason.TOO_MANY_ERRORS: Rule(4400, None, "no", "Too many messages were refused."),
    Reason.INVALID_MESSAGE: Rule(4400, None, "no", "The message is not valid.", True),
    Reason.UNKNOWN_TYPE: Rule(4400, None, "no", "The message type is not known.", True),
    Reason.UNSUPPORTED_DATA: Rule(4415, None, "no", "Binary messages are not supported."),
    Reason.MESSAGE_TOO_BIG: Rule(4413, None, "no", "The message is too big."),
    Reason.HEARTBEAT_TIMEOUT: Rule(4408, 503, "yes", "The heartbeat was not answered in time."),
    Reason.IDLE_TIMEOUT: Rule(4408, 503, "yes", "Nothing was received for too long."),
    Reason.HANDSHAKE_TIMEOUT: Rule(4408, 503, "yes", "The connection took too long to set up."),
    Reason.SLOW_CONSUMER: Rule(4504, None, "yes", "Messages were not read fast enough."),
    Reason.DISCONNECTED: Rule(4440, None, "no", "The connection was closed by an operator."),
    Reason.INTERNAL_ERROR: Rule(4500, 500, "yes", "Something went wrong on the server."),
    Reason.HANDLER_TIMEOUT: Rule(4500, 500, "yes", "The server took too long to answer."),
    Reason.SERVER_RESTART: Rule(4505, None, "yes", "The server is restarting."),
}

# What report mode lets through. Credentials, blocks, permission and routes are always enforced.
REPORTABLE = frozenset(
    {
        Reason.WSS_REQUIRED,
        Reason.ORIGIN_MISSING,
        Reason.ORIGIN_MALFORMED,
        Reason.ORIGIN_NOT_ALLOWED,
        Reason.RATE_LIMITED,
        Reason.CONNECTION_LIMIT,
        Reason.MESSAGE_TOO_BIG,
    }
)

# RFC 6585 section 4 and RFC 9110 section 10.2.3: a client told to come back later is told when.
DEFAULT_RETRY_AFTER = 5.0


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a message: `path` names declared fields only, `message` never repeats client input."""

    path: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A refusal as a value.

    Args:
        reason: what the client is told.
        detail: what the audit trail is told and the client is not.
        message: plain words instead of the table's; only from application code.
        retry_after: seconds after which another attempt can succeed.
        errors: what was wrong with the message's fields.
        visible: False for refusals that a browser is never told by an accepted socket (Origin, wss, floods).
        ambient: the credential that failed came with a cookie, which the browser adds by itself.
        block: the primary key of the block that refuses, for the audit trail.
    """

    reason: Reason
    detail: str = ""
    message: str | None = None
    retry_after: float | None = None
    errors: tuple[FieldError, ...] = ()
    visible: bool = True
    ambient: bool = False
    block: int | None = None

    @property
    def rule(self) -> Rule:
        return RULES[self.reason]

    @property
    def wait(self) -> float | None:
        """Seconds for `retry_after` and `Retry-After`, or None where waiting changes nothing."""
        if self.retry_after is not None:
            # Never 0, which a client would take for "at once".
            return max(round(self.retry_after, 3), 0.001)
        return DEFAULT_RETRY_AFTER if self.rule.reconnect == "later" else None

    @property
    def reconnect(self) -> bool:
        """Whether a client may try again by itself; a block that expires can be waited out."""
        if self.reason is Reason.BLOCKED:
            return self.retry_after is not None
        return self.rule.reconnect != "no"

    def frame(self, *, ref: str | int | None = None, fatal: bool) -> dict[str, Any]:
        """The error frame, which is also the JSON body of an HTTP refusal."""
        frame: dict[str, Any] = {
            "type": "error",
            "code": self.reason.value,
            "message": self.message or self.rule.message,
            "fatal": fatal,
        }
        if self.wait is not None:
            frame["retry_after"] = self.wait
        if self.errors:
            frame["errors"] = [{"path": error.path, "message": error.message} for error in self.errors]
        if ref is not None:
            frame["ref"] = ref
        if fatal:
            frame["reconnect"] = self.reconnect
        return frame
