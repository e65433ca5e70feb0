"""How an event looks outside: the names of the Elastic Common Schema, as CSV and as NDJSON.

Names with a dot are flat keys, the same in both formats. Times are RFC 3339, in UTC, with microseconds. NDJSON is
exact; CSV is for people: no cell of it is a formula to a spreadsheet (OWASP CSV Injection, ASVS 1.2.10, CWE-1236).
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
from django.utils import timezone

from channels_secure.audit import plain
from channels_secure.models import AuditEvent
from channels_secure.policy.addresses import parse_address

Kind = AuditEvent.Kind
NETWORK, SESSION, AUTHENTICATION = ["network"], ["network", "session"], ["authentication"]
IAM, DATABASE = ["iam"], ["database"]
# ECS event.category, event.type and event.outcome of each kind.
CLASSES: Mapping[str, tuple[list[str], list[str], str]] = {
    Kind.CONNECTION_ACCEPTED: (SESSION, ["connection", "start", "allowed"], "success"),
    Kind.CONNECTION_CLOSED: (SESSION, ["connection", "end"], "success"),
    Kind.HANDSHAKE_DENIED: (NETWORK, ["connection", "denied"], "failure"),
    Kind.MESSAGE_DENIED: (NETWORK, ["protocol", "denied"], "failure"),
    Kind.CREDENTIALS_REFRESHED: (AUTHENTICATION, ["info"], "success"),
    Kind.CREDENTIALS_FAILED: (AUTHENTICATION, ["start"], "failure"),
    Kind.POLICY_WOULD_DENY: (NETWORK, ["info"], "unknown"),
    Kind.TICKET_ISSUED: (AUTHENTICATION, ["info"], "success"),
    Kind.BLOCK_CREATED: (IAM, ["admin", "creation"], "success"),
    Kind.BLOCK_LIFTED: (IAM, ["admin", "deletion"], "success"),
    Kind.CONNECTION_DISCONNECTED: (SESSION, ["end"], "success"),
    Kind.TOKENS_REVOKED: (IAM, ["admin", "deletion"], "success"),
    Kind.ROOM_MODERATED: (IAM, ["admin", "change"], "success"),
    Kind.AUDIT_EXPORTED: (DATABASE, ["access"], "success"),
    Kind.AUDIT_PRUNED: (DATABASE, ["change"], "success"),
    Kind.AUDIT_ERASED: (DATABASE, ["change"], "success"),
    Kind.AUDIT_RECOVERED: (DATABASE, ["info"], "success"),
    Kind.STORE_DEGRADED: (DATABASE, ["error"], "failure"),
    Kind.STORE_RECOVERED: (DATABASE, ["info"], "success"),
}
# A kind that is none of ours.
UNKNOWN: tuple[list[str], list[str], str] = ([], [], "unknown")

# The model's fields that are read, and what is made of them; docs/howto/export-audit.md explains each.
FIELDS: Mapping[str, Callable[[AuditEvent], Any]] = {
    "event.start": lambda event: moment(event.created_at),
    "event.kind": lambda event: "event",
    "event.action": lambda event: event.kind,
    "event.reason": lambda event: event.reason,
    "event.category": lambda event: CLASSES.get(event.kind, UNKNOWN)[0],
    "event.type": lambda event: CLASSES.get(event.kind, UNKNOWN)[1],
    "event.outcome": lambda event: CLASSES.get(event.kind, UNKNOWN)[2],
    "event.id": lambda event: event.uid,
    "event.end": lambda event: moment(event.last_at),
    "user.id": lambda event: event.user_key,
    "user.name": lambda event: event.username,
    "source.address": lambda event: event.ip,
    # Only what a database of addresses takes: a row may have a network, or whatever a server was told.
    "source.ip": lambda event: None if parse_address(event.ip) is None else event.ip,
    "url.path": lambda event: event.path,
    "http.request.headers.origin": lambda event: event.origin,
    "user_agent.original": lambda event: event.user_agent,
    "channels_secure.connection_id": lambda event: event.connection_id,
    "channels_secure.actor": lambda event: event.actor,
    "channels_secure.actor_from": lambda event: event.actor_from,
    "channels_secure.count": lambda event: event.count,
    "channels_secure.is_open": lambda event: event.is_open,
    "channels_secure.detail": lambda event: event.detail,
    "channels_secure.position": lambda event: event.position,
    "channels_secure.hash": lambda event: event.hash,
    "channels_secure.commitment": lambda event: event.commitment,
    "channels_secure.salt": lambda event: event.salt,
    "channels_secure.actor_commitment": lambda event: event.actor_commitment,
    "channels_secure.actor_salt": lambda event: event.actor_salt,
}

# The standard's name of an event's time: only in NDJSON, because a spreadsheet takes it for a formula.
TIMESTAMP = "@timestamp"

# What makes a formula, and the apostrophe, so that taking one away always gives back the text.
_BEGINNINGS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20'")
# A spreadsheet in a country of decimal commas splits a line at semicolons, whatever stands between quotation marks.
_HAZARD = re.compile(f'(^|;"*)(?=[{re.escape("".join(_BEGINNINGS))}])')
_MAX_CELL = 100_000


class Format(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"

    @property
    def content_type(self) -> str:
        return "text/csv; charset=utf-8; header=present" if self is Format.CSV else "application/x-ndjson"

    @property
    def head(self) -> bytes:
        return _csv([FIELDS]) if self is Format.CSV else b""

    def body(self, events: Iterable[AuditEvent]) -> bytes:
        """A line for each event, in UTF-8."""
        if self is Format.CSV:
            return _csv([_cell(read(event)) for read in FIELDS.values()] for event in events)
        return b"".join(_line(event) for event in events)


def moment(when: datetime) -> str:
    """RFC 3339 in UTC; a project without time zones stores the local time."""
    aware = when if timezone.is_aware(when) else timezone.make_aware(when)
    return aware.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _csv(rows: Iterable[Iterable[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    if isinstance(value, str):
        # What the package writes is plain text already; a row may have come another way.
        return plain.text(_harmless(value), _MAX_CELL)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(value)
    return _cell(_json(value)) if isinstance(value, dict) else str(value)


def _harmless(text: str) -> str:
    # Most cells need no look at each of their characters.
    is_suspect = ";" in text or text.startswith(_BEGINNINGS)
    return _HAZARD.sub(r"\1'", text) if is_suspect else text


def _line(event: AuditEvent) -> bytes:
    fields = {name: read(event) for name, read in FIELDS.items()}
    return _json({TIMESTAMP: fields["event.start"], **fields}).encode() + b"\n"


def _json(value: Any) -> str:
    """JSON that a terminal can show: what is not printable is escaped."""
    # A row that did not come from the package may have half a character.
    with suppress(UnicodeEncodeError):
        text = msgspec.json.encode(value).decode()
        if text.isprintable():
            return text
    return json.dumps(value)
