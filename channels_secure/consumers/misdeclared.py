"""What a consumer class cannot be declared with, and its codec looked at for that."""

from typing import Any

from channels_secure.codecs import Codec, JsonCodec


class BadDeclaration(TypeError):
    """A consumer class whose declarations cannot work; the message says which and why."""


class BadCodec(BadDeclaration):
    """The same, where it is the codec that cannot work."""


def codec_of(consumer: Any) -> Codec | None:
    """The codec of a consumer class, None where frames are the JSON itself.

    Raises:
        BadCodec: it is none, or cannot work as it was declared.
    """
    codec: Any = consumer.codec
    if type(codec) is JsonCodec:
        return None
    where = f"{consumer.__qualname__}.codec"
    if isinstance(codec, type):
        raise BadCodec(f"{where} is a class and not a codec: write {codec.__name__}(...)")
    if not callable(getattr(codec, "encode", None)) or not callable(getattr(codec, "decode", None)):
        raise BadCodec(f"{where} has no `encode` and `decode`")
    problem = codec.problem() if hasattr(codec, "problem") else ""
    if problem:
        raise BadCodec(f"{where} {problem}")
    chosen: Codec = codec
    return chosen
