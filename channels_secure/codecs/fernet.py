"""Fernet tokens, by the library that defines them; needs the extra `encryption`."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from channels_secure.codecs.base import Unreadable


class Cipher:
    """Encrypts with the first key and decrypts with any.

    Args:
        keys: of 32 bytes, as `Fernet.generate_key()` writes them.
        ttl: seconds after which a token counts no more, None for never.

    Raises:
        ValueError: one of the keys is none.
    """

    __slots__ = ("_fernet", "_ttl")

    def __init__(self, keys: Sequence[str | bytes], ttl: int | None) -> None:
        fernets = [Fernet(key) for key in keys]
        # One key needs no look through a list of them.
        self._fernet = fernets[0] if len(fernets) == 1 else MultiFernet(fernets)
        self._ttl = ttl

    def encode(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def decode(self, frame: str) -> str:
        try:
            # Characters outside of ASCII are a ValueError in there, and so is a text that is no UTF-8.
            return self._fernet.decrypt(frame, self._ttl).decode()
        except (InvalidToken, ValueError):
            raise Unreadable("the frame cannot be read") from None
