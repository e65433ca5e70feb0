"""The package's exceptions.

ChannelsSecureError
├── Denied        raised by application code: refuse this handshake or this message
├── PeerGone      raised by the package out of `send()` after the socket has ended
└── Unavailable   raised by a store, or what needs one: it is away, and guessing would not be safe
"""

from channels_secure.policy.decisions import Denial, Reason


class ChannelsSecureError(Exception):
    """Base of everything the package raises on purpose."""


class Denied(ChannelsSecureError):
    """Refuse from `authorize()`, `connect()` or a handler.

    Args:
        reason: a `Reason` or its slug, for example ``"permission_denied"``.
        message: plain words for the client instead of the standard ones.
        retry_after: seconds after which it may succeed.

    Raises:
        ValueError: the reason is not one of the table's.
    """

    def __init__(
        self, reason: Reason | str, message: str | None = None, *, retry_after: float | None = None, detail: str = ""
    ) -> None:
        # A lazy translation is taken in the language of whoever is refused.
        words = None if message is None else str(message)
        self.denial = Denial(reason=Reason(reason), message=words, retry_after=retry_after, detail=str(detail))
        super().__init__(self.denial.reason.value)


class PeerGone(ChannelsSecureError):
    """The socket has ended, so nothing more can be sent; let it pass through to end the handler."""


class Unavailable(ChannelsSecureError):
    """What would have to be asked is away; nothing was decided, and it may be tried again later."""
