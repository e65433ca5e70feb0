"""Every page that the package gives an operator, found by the admin's own URLs, and something for them to show.

A page that is added later is found without a change here; one that needs more in its address than a primary key has a
line in `_queries`.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db.models import Model
from django.urls import get_resolver, reverse
from django.utils import timezone

from channels_secure.models import AuditEvent, AuditRollup, Block, LiveConnection, LiveProcess
from channels_secure.rooms.models import Membership, Room

PREFIX = "channels_secure_"
OF_ROOMS = "channels_secure_rooms_"
# Where the package's pages stand among others, and pages of others on which it has a part.
INDEXES = ("index", "app_list")
OF_USERS = "auth_user_"
TEXTS = ("reason", "username", "ip", "path", "origin", "user_agent", "actor", "actor_from")

# What gets out of a text, an attribute, a script, a link, and what a template would calculate.
PAYLOADS = (
    "<x-evil x-evil><script>evil()</script></x-evil>",
    '"><x-evil></x-evil><img src=x x-evil=1 onerror=evil()>',
    "' x-evil='1' onfocus='evil()' x='",
    "</script></style></textarea></title><x-evil><!--",
    "javascript:evil()//",
    "{{ 7|add:70 }}{% evil %}%(evil)s{evil}",
    "\u202e\x1b[2J\n\u2028&lt;x-evil&gt;",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One of everything."""

    user: User
    event: AuditEvent
    block: Block
    connection: LiveConnection
    room: Room
    membership: Membership

    def key_for(self, name: str) -> str:
        """The primary key that stands in a page's address, by the page's name."""
        model = name.removeprefix(OF_ROOMS).removeprefix(PREFIX).partition("_")[0]
        rows: dict[str, Model] = {
            "auditevent": self.event,
            "block": self.block,
            "liveconnection": self.connection,
            "room": self.room,
            "membership": self.membership,
        }
        return quote(str(rows.get(model, self.user).pk))


def populate(text: str, number: int = 0, username: str = "") -> World:
    """Make one of everything, with `text` wherever somebody outside could have put it, unless the user has a name."""
    now = timezone.now()
    user: User = get_user_model().objects.create(username=username or text[:150], first_name=text[:40])
    # The package's own word, in which no line ever ends: unfold could not lead to it.
    connection_id = "".join(filter(str.isprintable, f"{number:02x}{text}"))[:64]
    process = LiveProcess.objects.create(
        id=f"process-{number}", host=text, pid=4711, lease_until=now + timedelta(hours=1)
    )
    connection = LiveConnection.objects.create(
        connection_id=connection_id,
        process=process,
        user=user,
        username=text,
        ip=text[:64],
        path=text,
        user_agent=text,
        credentials="session",
        opened_at=now - timedelta(minutes=5),
        heard_at=now,
        received=17,
        violations=3,
    )
    AuditRollup.objects.get_or_create(
        hour=now.replace(minute=0, second=0, microsecond=0),
        kind="message.denied",
        reason="rate_limited",
        defaults={"events": 5, "rows": 1},
    )
    event = _events(text, user, connection_id)
    block = Block.objects.create(user=user, reason=text, created_by=user)
    room = Room.objects.create(slug=f"room-{number}", title=text[:100], owner=user)
    member: User = get_user_model().objects.create(username=f"{text[:140]} {number}")
    membership = Membership.objects.create(room=room, user=member, muted_until=now)
    return World(user=user, event=event, block=block, connection=connection, room=room, membership=membership)


def _events(text: str, user: User, connection_id: str) -> AuditEvent:
    """What a connection went through; its last event."""
    facts: dict[str, Any] = {"user": user, "user_key": str(user.pk), **dict.fromkeys(TEXTS, text)}
    facts |= {"ip": text[:64], "connection_id": connection_id, "detail": {text: [text], "code": text}}
    kinds = ("connection.accepted", "message.denied", "handshake.denied", "block.created", "connection.closed")
    for kind in kinds:
        event = AuditEvent.objects.create(kind=kind, **facts)
    AuditEvent.objects.create(kind="message.denied", **{**facts, "ip": "203.0.113.7", "reason": "rate_limited"})
    return event


def names() -> list[str]:
    """The names of all URLs below `admin:` that are the package's, or of pages on which it has a part."""
    known = [name for name in _by_name() if isinstance(name, str)]
    return sorted(name for name in known if name in INDEXES or name.startswith((PREFIX, OF_USERS)))


def _by_name() -> Any:
    (admin,) = (each for each in get_resolver().url_patterns if getattr(each, "namespace", None) == "admin")
    return admin.reverse_dict  # type: ignore[union-attr]  # it has a namespace, so it is a resolver


def addresses(name: str, world: World) -> list[str]:
    """A page's addresses: without a question, and with each that it understands."""
    [(_, parameters), *_] = _by_name().getlist(name)[0][0]
    keys = ["channels_secure"] if name == "app_list" else [world.key_for(name) for _ in parameters]
    page = reverse(f"admin:{name}", args=keys)
    return [page, *(f"{page}?{urlencode(query)}" for query in _queries(name, world))]


def _queries(name: str, world: World) -> list[dict[str, Any]]:
    event, connection, user = world.event, world.connection, world.user.pk
    known: dict[str, list[dict[str, Any]]] = {
        "dashboard": [*({"period": period} for period in ("1h", "24h", "7d", "30d")), {"part": 1}],
        "auditevent_changelist": [
            {"q": event.username},
            {"user": user},
            {"ip": event.ip},
            {"connection_id": event.connection_id},
            {"kind": event.kind, "period": "24h"},
            {"reason": event.reason},
        ],
        "block_add": [{"user": user}, {"network": "203.0.113.7"}, {"network": event.ip, "reason": event.reason}],
        "block_changelist": [{"q": event.username}, {"state": "active"}],
        "liveconnection_changelist": [{"q": event.username}, {"user": user}],
        "liveconnection_disconnect": [
            {"connection": connection.connection_id},
            {"user": user},
            {"ip": connection.ip},
            {"user": user, "next": "javascript:evil()"},
        ],
        "liveconnection_revoke": [{"user": user}],
    }
    return known.get(name.removeprefix(PREFIX), [])
