"""Which rows are about whom: conditions that an index answers, in the order of time, whatever the trail's size."""

from functools import reduce
from operator import or_

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import connections
from django.db.models import Q, QuerySet

from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent
from channels_secure.policy.addresses import bucket, parse_address

# A shorter beginning is that of too many connections.
MIN_PREFIX = 3


def search(rows: QuerySet[AuditEvent], term: str) -> QuerySet[AuditEvent]:
    """Rows of exactly this username or address, or of a connection whose id begins so."""
    term = term.strip()
    if not term:
        return rows
    if parse_address(term) is not None:
        return _having(rows, *_of_address(term))
    return _having(rows, Q(username=term), Q(ip=term), *_of_connection(term, rows.db))


def by_user(rows: QuerySet[AuditEvent], text: str) -> QuerySet[AuditEvent]:
    """Rows of a username, or else of a user's primary key, whether there still is such a user or not."""
    name = Q(username=text)
    if _is_there(name, rows.db):
        return rows.filter(name)
    # The rows of somebody who is gone have only the key's text, for which there is no index: the table is read.
    return rows.filter(user_id=text) if _is_key(text) else rows.filter(user_key=text)


def by_address(rows: QuerySet[AuditEvent], text: str) -> QuerySet[AuditEvent]:
    return _having(rows, *_of_address(text))


def by_connection(rows: QuerySet[AuditEvent], text: str) -> QuerySet[AuditEvent]:
    """Rows of a connection, or of those whose ids begin so."""
    return _having(rows, *_of_connection(text, rows.db))


def _having(rows: QuerySet[AuditEvent], *conditions: Q) -> QuerySet[AuditEvent]:
    # An index answers one condition in order, and none answers several: those that hold for no row are left out.
    met = [condition for condition in conditions if _is_there(condition, rows.db)]
    return rows.filter(reduce(or_, met)) if met else rows.none()


def _is_there(condition: Q, using: str) -> bool:
    return AuditEvent.objects.using(using).filter(condition).exists()


def _is_key(text: str) -> bool:
    """Whether it is the primary key of a user who is still there."""
    try:
        return get_user_model()._base_manager.filter(pk=text).exists()
    except (ValueError, OverflowError, ValidationError):
        return False


def _of_address(text: str) -> list[Q]:
    address = parse_address(text)
    if address is None:
        return [Q(ip=text)]
    # Rows that sum up an IPv6 client's events carry its network, and those of a block the network that it blocks.
    texts = str(address), bucket(address, get_settings().ipv6_prefix), f"{address}/{address.max_prefixlen}"
    return [Q(ip=each) for each in dict.fromkeys(texts)]


def _of_connection(text: str, using: str) -> list[Q]:
    if len(text) < MIN_PREFIX:
        return []
    if connections[using].vendor == "sqlite":
        # SQLite's LIKE passes over upper and lower case, and over the index.
        return [Q(connection_id__gte=text, connection_id__lt=f"{text}\U0010ffff")]
    return [Q(connection_id__startswith=text)]
