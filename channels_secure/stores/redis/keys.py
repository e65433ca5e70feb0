"""Names of keys: whatever clients chose is hashed, so that a name has a length, an alphabet and no secrets."""

import hashlib


def key_of(prefix: str, kind: str, *parts: str) -> str:
    """``cs:{3f}:rate:3f…``: the tag in braces sends keys to 256 places of a cluster, so that many share a call."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=16).hexdigest()
    return f"{prefix}{{{digest[:2]}}}:{kind}:{digest}"


def mark_of(owner: str) -> str:
    """What the members of one owner begin with."""
    return hashlib.blake2b(owner.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest() + ":"
