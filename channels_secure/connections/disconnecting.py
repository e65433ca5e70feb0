"""Ending open sockets, or having their rights looked up again, wherever they are: from views, tasks and commands."""

from typing import Any

from channels_secure import audit, database
from channels_secure.audit import plain
from channels_secure.auth.base import digest_of
from channels_secure.blocklist.changes import Network, name_of, stored_user
from channels_secure.conf import get_settings
from channels_secure.models import RECHECK, Revocation, policy_change
from channels_secure.policy.addresses import MIN_PREFIX, network_for
from channels_secure.policy.decisions import Reason
from channels_secure.policy.group_names import group_name
from channels_secure.revocation.rows import insert

Kind = Revocation.Kind
Target = tuple[Revocation.Kind, str]

# What may be told to a client that has to go though its credentials are good.
REASONS = frozenset(
    {
        Reason.DISCONNECTED,
        Reason.SESSION_ENDED,
        Reason.CONNECTION_REPLACED,
        Reason.PERMISSION_DENIED,
        Reason.SERVER_RESTART,
        Reason.UNAVAILABLE,
    }
)
MAX_ID_LENGTH = 64


def disconnect(
    user: Any = None,
    connection_id: str | None = None,
    ip: Network | None = None,
    session_key: str | None = None,
    reason: str = Reason.DISCONNECTED,
    by: Any = None,
) -> None:
    """End the sockets that are open now of one user, connection, address or session, in every process.

    Those of this process end at once, the others within `POLICY_REFRESH_INTERVAL`, counted from the commit. Whoever
    may connect may come back: to keep somebody out, block them. A session that is disconnected as `session_ended` is
    logged out as far as sockets go: for some minutes it opens none.

    Args:
        user: a user of the project, or the primary key of one.
        ip: an address or a network; a bare IPv6 address stands for its /`IPV6_PREFIX`.
        session_key: of Django's session; stored as its SHA-256 only.
        reason: a reason that clients are told, of `REASONS`; other words go to the audit trail, and clients are told
            `disconnected`.
        by: the user who does this, or the name of something else that does, for the audit trail.

    Raises:
        ValueError: not exactly one of user, connection_id, ip and session_key, or one that cannot exist.
    """
    told = _told(reason)
    (kind, subject), facts = _target(user, connection_id, ip, session_key)
    facts["actor"] = name_of(by)
    with policy_change() as using:
        insert(kind, [subject], told, using=using, by=by)
        audit.write("connection.disconnected", plain.text(reason), **facts)


def recheck(user: Any = None, group: str | None = None) -> None:
    """Look up again, now and in every process, whether the sockets of a user or the members of a group may stay.

    Their sessions and users are read from the store, `scope["user"]` is replaced, and `authorize()` is asked again.

    Raises:
        ValueError: not exactly one of user and group, or an unknown user.
        TypeError: the group's name is not a string.
    """
    if (user is None) == (group is None):
        raise ValueError("name either a user or a group")
    target = (Kind.USER, str(stored_user(user).pk)) if group is None else (Kind.GROUP, group_name(group))
    with policy_change() as using:
        insert(target[0], [target[1]], RECHECK, using=using)


async def adisconnect(
    user: Any = None,
    connection_id: str | None = None,
    ip: Network | None = None,
    session_key: str | None = None,
    reason: str = Reason.DISCONNECTED,
    by: Any = None,
) -> None:
    """`disconnect()` from the event loop."""
    await database.write(disconnect, user, connection_id, ip, session_key, reason, by)


async def arecheck(user: Any = None, group: str | None = None) -> None:
    """`recheck()` from the event loop."""
    await database.write(recheck, user, group)


def _told(reason: str) -> Reason:
    if not isinstance(reason, str) or reason not in set(Reason):
        return Reason.DISCONNECTED
    if Reason(reason) not in REASONS:
        raise ValueError(f"sockets cannot be disconnected as {reason!r}: use one of {', '.join(sorted(REASONS))}")
    return Reason(reason)


def _target(user: Any, connection_id: Any, ip: Network | None, session_key: Any) -> tuple[Target, audit.Facts]:
    """What the row is about, and what the audit trail says of it."""
    if sum(selector is not None for selector in (user, connection_id, ip, session_key)) != 1:
        raise ValueError("name exactly one of user, connection_id, ip and session_key")
    if user is not None:
        person = stored_user(user)
        return (Kind.USER, str(person.pk)), {"user": person}
    if ip is not None:
        network = _network(ip)
        return (Kind.ADDRESS, network), {"ip": network}
    if connection_id is not None:
        name = _checked(connection_id, "a connection's id")
        return (Kind.CONNECTION, name), {"connection_id": name}
    digest = digest_of(_checked(session_key, "a session's key", 4096))
    return (Kind.SESSION, digest), {"detail": {"session": digest}}


def _network(ip: Network) -> str:
    network = network_for(str(ip), get_settings().ipv6_prefix)
    if network.prefixlen < MIN_PREFIX[network.version]:
        raise ValueError(f"{network} is too wide: at most a /{MIN_PREFIX[network.version]} at once")
    return str(network)


def _checked(value: Any, what: str, longest: int = MAX_ID_LENGTH) -> str:
    # The value is not repeated: a session's key is a secret.
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise ValueError(f"{what} is text of at most {longest} characters")
    return value
