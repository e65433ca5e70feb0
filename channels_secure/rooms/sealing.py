"""What was sealed in a browser, as it stands on the wire; the server can check its shape and nothing else."""

from base64 import urlsafe_b64decode
from typing import Annotated

import msgspec
from django.core.exceptions import ImproperlyConfigured
from msgspec import Meta

# Base64url without padding (RFC 4648 section 5), of exactly so many bytes: an uncompressed point of P-256 (65, of which
# the first is 4), a wrapped room key (salt 32, nonce 12, key 32, tag 16), a stream's name (16).
Key = Annotated[str, Meta(pattern="^B[A-P][A-Za-z0-9_-]{84}[AEIMQUYcgkosw048]$", min_length=87, max_length=87)]
Box = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{123}$", min_length=123, max_length=123)]
Stream = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{22}$", min_length=22, max_length=22)]
# SHA-256 of the point, in hexadecimal.
Fingerprint = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", min_length=64, max_length=64)]
EpochNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]
LONGEST_SEALED = 16_000


class Sealed(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A message that only members can open.

    Args:
        epoch: of which room key.
        stream: one page of one sender; its messages are counted.
        n: the place in that stream, from 1.
        box: AES-GCM's ciphertext and tag.
    """

    epoch: EpochNumber
    stream: Stream
    n: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    box: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]+$", min_length=22, max_length=LONGEST_SEALED)]


def is_point(key: str) -> bool:
    """Whether a public key is a point of P-256, without which no member could make a room key for it.

    Raises:
        ImproperlyConfigured: the extra `encryption` is not installed.
    """
    try:
        from channels_secure.codecs.points import is_on_p256
    except ImportError as error:
        raise ImproperlyConfigured("Encrypted rooms need channels-secure[encryption].") from error
    return is_on_p256(urlsafe_b64decode(f"{key}="))
