"""The declaration of encrypted frames: whose keys, and for how long a frame is good."""

from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from importlib.util import find_spec
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from channels_secure.codecs.fernet import Cipher

# None is what an environment without the key gives: the system check says so, and not the import of a module.
Keys = str | bytes | Iterable[str | bytes] | None
# Seconds: what a slow network and clocks that differ a little need.
TTL = 60


class FernetCodec:
    """Every frame, both ways, is a Fernet token around the JSON; needs the extra `encryption`.

    Args:
        keys: one key or several, as `cryptography.fernet.Fernet.generate_key()` makes them. The first encrypts and each
            decrypts, so that a new one is put in front and an old one is taken out later. Or a function of the
            consumer, plain or ``async``, that answers them for one connection, after `authorize()`.
        ttl: seconds after which a token is refused, so that it cannot be sent again later; None accepts any age. Fernet
            itself refuses one from more than a minute in the future.

    A declaration that cannot work is reported by the system check `channels_secure.E013`.
    """

    def __init__(self, keys: Keys | Callable[[Any], Keys | Awaitable[Keys]] = None, *, ttl: int | None = TTL) -> None:
        self._ask = keys if callable(keys) else None
        self._keys = () if callable(keys) else _listed(keys)
        self._ttl = ttl

    def __repr__(self) -> str:
        return f"FernetCodec(ttl={self._ttl})"

    def encode(self, text: str, /) -> str:
        return self._cipher.encode(text)

    def decode(self, frame: str, /) -> str:
        return self._cipher.decode(frame)

    async def open(self, consumer: Any) -> "FernetCodec":
        """The codec of one connection.

        Raises:
            ImproperlyConfigured: there are no keys for it, or what was answered is none.
        """
        if self._ask is None:
            return self
        answer = self._ask(consumer)
        keys: Any = await answer if isawaitable(answer) else answer
        opened = FernetCodec(keys, ttl=self._ttl)
        fault = opened.problem()
        if fault:
            raise ImproperlyConfigured(f"FernetCodec for one connection {fault}")
        return opened

    def problem(self) -> str:
        """What is wrong with the declaration, empty where nothing is; never repeats a key."""
        if find_spec("cryptography") is None:
            return "needs the extra: pip install channels-secure[encryption]"
        if self._ttl is not None and (isinstance(self._ttl, bool) or not isinstance(self._ttl, int) or self._ttl < 1):
            return "has a ttl that is not a whole number of seconds"
        if self._ask is not None:
            return ""
        if not self._keys:
            return "has no keys"
        try:
            self._cipher  # noqa: B018 - made to be looked at
        except (ValueError, TypeError):
            return "has a key that is not 32 bytes in URL-safe base64"
        return ""

    @cached_property
    def _cipher(self) -> "Cipher":
        from channels_secure.codecs.fernet import Cipher

        if not self._keys:
            raise ImproperlyConfigured("FernetCodec has no keys of its own: use what `open()` answers")
        return Cipher(self._keys, self._ttl)


def _listed(keys: Keys) -> tuple[str | bytes, ...]:
    return (keys,) if isinstance(keys, str | bytes) else tuple(keys or ())
