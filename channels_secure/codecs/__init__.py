"""How the frames of a consumer stand on the wire: as JSON, or as Fernet tokens that carry it.

class ChatConsumer(SecureJsonConsumer):
    codec = FernetCodec(keys=[settings.CHAT_KEY])
"""

from channels_secure.codecs.base import Codec, JsonCodec, Unreadable
from channels_secure.codecs.keyed import FernetCodec

__all__ = ["Codec", "FernetCodec", "JsonCodec", "Unreadable"]
