"""The names of groups: Channels' own grammar where a name fits into it, a hash elsewhere."""

import hashlib
import re

_CHANNELS_GRAMMAR = re.compile(r"[a-zA-Z0-9_.-]{1,99}", re.ASCII)
# A name of the form that hashing makes is hashed too: nobody can name their way into another name's group.
_HASHED = re.compile(r"cs\.[0-9a-f]{32}", re.ASCII)


def group_name(name: str) -> str:
    """The channel layer's name of a group: unchanged where Channels accepts it, else ``cs.<sha256[:32]>``.

    Raises:
        TypeError: the name is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"a group's name is a string, not {type(name).__name__}")
    if _CHANNELS_GRAMMAR.fullmatch(name) and not _HASHED.fullmatch(name):
        return name
    return "cs." + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
