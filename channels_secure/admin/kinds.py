"""What happened, one sentence for each kind of event, and what to do about those that no reason explains."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from django.utils.translation import gettext_lazy as _

from channels_secure.models import AuditEvent

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Text: TypeAlias = str | _StrPromise
else:
    Text = object

Kind = AuditEvent.Kind

# {who}, {whom} and {actor} name people, {when} also says how often, {because} is a clause of `reasons.WHY`.
REFUSED: Mapping[str, Text] = {
    Kind.CONNECTION_CLOSED: _("{who} was disconnected from {path} {when} because {because}."),
    Kind.HANDSHAKE_DENIED: _("{who} was refused {when} because {because}."),
    Kind.MESSAGE_DENIED: _("{who} had a message refused {when} because {because}."),
    Kind.CREDENTIALS_FAILED: _("{who} was turned away {when} because {because}."),
    Kind.POLICY_WOULD_DENY: _(
        "{who} was let through {when} in report mode only: enforced, the answer is no because {because}."
    ),
}
TICKET_REFUSED = _("{who} was refused a ticket {when} because {because}.")
PLAIN: Mapping[str, Text] = {
    Kind.CONNECTION_ACCEPTED: _("{who} connected to {path} {when} with {credentials}."),
    Kind.CONNECTION_CLOSED: _("{who} was disconnected from {path} {when}."),
    Kind.HANDSHAKE_DENIED: _("{who} left {when} before the handshake was decided: nobody refused it."),
    Kind.MESSAGE_DENIED: _("{who} had a message refused {when}."),
    Kind.CREDENTIALS_REFRESHED: _(
        "{who} renewed the credentials of an open connection {when}, now with {credentials}."
    ),
    Kind.CREDENTIALS_FAILED: _("{who} showed credentials that were refused {when}."),
    Kind.POLICY_WOULD_DENY: _("{who} was let through {when} in report mode only: enforced, the answer is no."),
    Kind.TICKET_ISSUED: _("{who} got a ticket {when}, good for opening one socket{bound}, for {credentials}."),
    Kind.BLOCK_CREATED: _("{actor} blocked {whom} {when} {until}{words}."),
    Kind.BLOCK_LIFTED: _("{actor} lifted the block of {whom} {when}{words}."),
    Kind.CONNECTION_DISCONNECTED: _("{actor} disconnected {target} {when}{words}."),
    Kind.TOKENS_REVOKED: _("{actor} revoked {tokens} of {whom} {when}."),
    Kind.ROOM_MODERATED: _("{actor} moderated a room {when}: {whom}, {path}{words}."),
    Kind.AUDIT_EXPORTED: _("{actor} exported {rows} of the audit trail as {format} {when}."),
    Kind.AUDIT_PRUNED: _("{actor} pruned {rows} older than {days} from the audit trail {when}."),
    Kind.AUDIT_ERASED: _("{actor} erased a person from {rows} of the audit trail {when}."),
    Kind.AUDIT_RECOVERED: _("The server stored {events} {when} that a process which died had left in its spool."),
    Kind.STORE_DEGRADED: _("The {store} could not be reached or used {when}{error}."),
    Kind.STORE_RECOVERED: _("The {store} worked again {when}."),
}
# How a connection ended that no reason explains; `detail["by"]` says who ended it.
CLOSED_BY: Mapping[str, Text] = {
    "client": _("{who} closed the connection to {path} {when}."),
    "application": _("{who} was disconnected from {path} by the application {when}."),
    "transport": _("{who} lost the connection to {path} {when}: it ended without a word from either side."),
    "lost": _("{who} lost the connection to {path} when its server process died, which was noticed {when}."),
}
BLOCKED_BY_ITSELF = _("The server blocked {whom} {when} {until} by itself{words}.")
AUTOMATIC: Mapping[str, Text] = {Kind.BLOCK_CREATED: BLOCKED_BY_ITSELF}

# What `channels_secure.rooms` records as the reason of `room.moderated`; an application may record reasons of its own.
ROOM_ACTS: Mapping[str, Text] = {
    "mute": _("{actor} muted {whom} in the room {room} {when}."),
    "unmute": _("{actor} let {whom} speak again in the room {room} {when}."),
    "kick": _("{actor} threw {whom} out of the room {room} {when}."),
    "ban": _("{actor} banned {whom} from the room {room} {when}."),
    "unban": _("{actor} let {whom} into the room {room} again {when}."),
    "delete": _("{actor} deleted a message in the room {room} {when}."),
    "slow": _("{actor} changed the slow mode of the room {room} {when}."),
    "promote": _("{actor} gave {whom} the role “{role}” in the room {room} {when}."),
    "hand_over": _("{actor} handed the room {room} over to {whom} {when}."),
    "create": _("{actor} created the room {room}, or a membership in it, {when}."),
    "change": _("{actor} changed the room {room}, or a membership in it, {when}."),
    "remove": _("{actor} removed the room {room}, or a membership in it, {when}."),
    "key_published": _("{who} published a key for encrypted rooms {when}."),
    "key_replaced": _("{who} put another key for encrypted rooms in the place of the former one {when}."),
    "keys_rotated": _("{who} made new keys for the room {room} {when}."),
    "keys_fetched": _("{who} was given the sealed keys of the room {room} {when}."),
}
KEY_REPLACED = _("A new browser does this, and so does somebody else who has logged in as this user: ask the user.")

# What a row is that sums up others, by `detail["sum"]`.
SUMS: Mapping[str, Text] = {
    "address and user": _(
        "This row sums up one client's events of a minute; path, origin and program are the first's."
    ),
    "kind and reason": _("There were so many events in this minute that this row sums up those of all clients."),
}

CREDENTIALS: Mapping[str, Text] = {
    "": _("no credentials"),
    "session": _("a session"),
    "jwt": _("a token"),
    "ticket": _("a ticket"),
}
STORES: Mapping[str, Text] = {
    "database": _("database"),
    "RedisStore": _("Redis store"),
    "spool": _("audit spool"),
}

ADVICE: Mapping[str, Text] = {
    Kind.CONNECTION_ACCEPTED: _("Nothing needs doing."),
    Kind.CONNECTION_CLOSED: _(
        "Nothing needs doing. Many of these at once speak of a network or a proxy that ends connections."
    ),
    Kind.HANDSHAKE_DENIED: _("Nothing needs doing. Many of these from one address are a flood: block it."),
    Kind.MESSAGE_DENIED: _("The events of the connection below say more."),
    Kind.CREDENTIALS_REFRESHED: _("Nothing needs doing."),
    Kind.CREDENTIALS_FAILED: _("Many of these from one address are guesses: block it."),
    Kind.POLICY_WOULD_DENY: _("Put this right before MODE is set to “enforce”."),
    Kind.TICKET_ISSUED: _("Nothing needs doing."),
    Kind.BLOCK_CREATED: _("If it was a mistake, lift it in the list of blocks."),
    Kind.BLOCK_LIFTED: _("If it was a mistake, block again: history keeps both."),
    Kind.CONNECTION_DISCONNECTED: _("Whoever is disconnected may come back. To keep somebody out, block them."),
    Kind.TOKENS_REVOKED: _("The user has to log in again."),
    Kind.ROOM_MODERATED: _("Nothing needs doing. What was a mistake can be undone by whoever moderates the room."),
    Kind.AUDIT_EXPORTED: _("If you do not know why, ask who did it: personal data has left this server."),
    Kind.AUDIT_PRUNED: _("Nothing needs doing. The chain goes on from a signed checkpoint."),
    Kind.AUDIT_ERASED: _("Nothing needs doing. The chain still verifies."),
    Kind.AUDIT_RECOVERED: _("Find out why the process died. Nothing of what it had recorded is lost."),
    Kind.STORE_DEGRADED: _("Run ws_doctor, and see to it at once if “store recovered” has not followed."),
    Kind.STORE_RECOVERED: _("Nothing needs doing. The events between the two say who was turned away meanwhile."),
}
