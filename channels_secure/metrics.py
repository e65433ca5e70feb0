"""Metrics for Prometheus, where `prometheus_client` is installed; docs/howto/metrics.md says how they are served.

Every label has a fixed set of values: reasons and kinds from the package's own tables, and `other` for anything else,
so that no client makes series. Never a user, an address or a path. Everything is an ordinary counter, gauge or
histogram whose children are made beforehand, so that it works with PROMETHEUS_MULTIPROC_DIR too; nothing is done per
message.
"""

import logging
import math
import time
from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from django.conf import settings as django_settings
from django.dispatch import Signal
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from channels_secure import __version__, audit, blocklist, signals
from channels_secure.auth.offers import TICKET_PARAMETER, find_offers
from channels_secure.auth.subprotocols import TICKET_PREFIX
from channels_secure.connections import Connection, Registry, registry
from channels_secure.models import AuditEvent
from channels_secure.policy.decisions import RULES, Denial, Reason

logger = logging.getLogger("channels_secure")

PREFIX = "channels_secure_"
OTHER, NONE = "other", "none"
METHODS = ("session", "ticket", "jwt", "anonymous")
RESULTS = ("accepted", "refused", "abandoned")
INITIATORS = ("policy", "application", "client", "transport")
STORES = ("shared", "database")
# A refusal for one of these says that a credential was offered and is not good.
FAILED = frozenset({Reason.INVALID_CREDENTIALS, Reason.AMBIGUOUS_CREDENTIALS, Reason.CREDENTIALS_EXPIRED})
# Seconds.
LIVES = (1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 86400.0)
HANDSHAKES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)

Metric = TypeVar("Metric", bound=MetricWrapperBase)


class Children(dict[str, Metric]):
    """A metric's children by the value of its last label; a value that is not foreseen is `other`, and adds none."""

    def __init__(self, metric: Metric, values: Iterable[str], *before: str) -> None:
        super().__init__({value: metric.labels(*before, value) for value in (*map(str, values), OTHER)})

    def __missing__(self, value: str) -> Metric:
        return self[OTHER]


@dataclass(slots=True)
class Traffic:
    """What the sockets of one event loop have done, and how much of it has been counted."""

    live: Tally[str] = field(default_factory=Tally)
    # Received and sent by those that have ended, and what of all has been counted.
    ended: tuple[int, int] = (0, 0)
    counted: tuple[int, int] = (0, 0)


class Metrics:
    """The metrics of one process.

    Raises:
        ValueError: the registry has metrics of these names already.
        OSError: the folder in PROMETHEUS_MULTIPROC_DIR cannot be used.
    """

    def __init__(self, to: CollectorRegistry = REGISTRY) -> None:
        self._traffic: WeakKeyDictionary[Registry, Traffic] = WeakKeyDictionary()
        self._make_sockets(to)
        self._make_decisions(to)
        self._make_standing(to)

    def connect(self) -> None:
        """Begin to count what happens in this process."""
        for signal, receiver in self._receivers():
            signal.connect(receiver, weak=False)

    def disconnect(self) -> None:
        """Count no more."""
        for signal, receiver in self._receivers():
            signal.disconnect(receiver)

    def _receivers(self) -> Iterable[tuple[Signal, Any]]:
        return (
            (signals.event_recorded, self._event_recorded),
            (signals.handshake_counted, self._handshake_counted),
            (signals.end_counted, self._end_counted),
            (signals.sockets_counted, self._sockets_counted),
            (signals.store_degraded, self._store_degraded),
            (signals.store_recovered, self._store_recovered),
        )

    # What is counted --------------------------------------------------------------------------------------------------

    def _make_sockets(self, to: CollectorRegistry) -> None:
        live = _gauge("connections", "Open sockets, by what they were let in with.", to, ["auth"])
        self._connections = Children(live, METHODS)
        # Not `connections_total`: in OpenMetrics that would be the name of the gauge.
        handshakes = _counter("handshakes_total", "Handshakes, by how they ended.", to, ["result"])
        self._handshakes = Children(handshakes, RESULTS)
        self._handshake_seconds = Histogram(
            f"{PREFIX}handshake_duration_seconds", "From a handshake's first byte to its accept.",
            registry=to, buckets=HANDSHAKES,
        )  # fmt: skip
        self._seconds = Histogram(
            f"{PREFIX}connection_duration_seconds", "How long sockets were open.", registry=to, buckets=LIVES
        )
        messages = _counter("messages_total", "Frames of open sockets.", to, ["direction"])
        self._received, self._sent = messages.labels("received"), messages.labels("sent")
        ends = _counter("disconnects_total", "Ends of open sockets.", to, ["initiator", "reason"])
        self._ends = {who: Children(ends, RULES if who == "policy" else [NONE], who) for who in INITIATORS}

    def _make_decisions(self, to: CollectorRegistry) -> None:
        refusals = _counter("rejections_total", "Handshakes that were refused.", to, ["reason", "close_code"])
        self._rejections = {reason: refusals.labels(reason, rule.close) for reason, rule in RULES.items()}
        self._other_rejections = refusals.labels(OTHER, OTHER)
        attempts = _counter("auth_attempts_total", "Credentials of handshakes.", to, ["result", "method"])
        self._attempts = {result: Children(attempts, METHODS, result) for result in ("accepted", "failed")}
        messages = _counter("messages_refused_total", "Messages of open sockets that were refused.", to, ["reason"])
        reported = _counter("would_deny_total", "What report mode has let pass.", to, ["reason"])
        self._by_reason: dict[str, Children[Counter]] = {
            AuditEvent.Kind.MESSAGE_DENIED: Children(messages, RULES),
            AuditEvent.Kind.POLICY_WOULD_DENY: Children(reported, RULES),
        }
        events = _counter("audit_events_total", "Events of the audit trail.", to, ["kind"])
        self._events = Children(events, AuditEvent.Kind)

    def _make_standing(self, to: CollectorRegistry) -> None:
        self._queue = _gauge("audit_queue_size", "Rows of the audit trail that wait to be written.", to)
        self._unwritable = _gauge("audit_unwritable", "1 in a process that cannot write the audit trail.", to)
        degraded = _gauge("store_degraded", "1 in a process that does without this store.", to, ["store"])
        self._degraded = {store: degraded.labels(store) for store in STORES}
        self._age = _gauge("policy_age_seconds", "Since blocks and revocations were last known.", to, mode="livemax")
        self._blocked_users = _gauge("blocked_users", "Users who are blocked.", to, mode="livemax")
        _gauge("build_info", "The version that runs.", to, ["version"], mode="livemax").labels(__version__).set(1)

    # Receivers --------------------------------------------------------------------------------------------------------

    def _event_recorded(self, kind: str, reason: str, count: int, **_: Any) -> None:
        self._events[kind].inc(count)
        by_reason = self._by_reason.get(kind)
        if by_reason is not None:
            by_reason[reason].inc(count)

    def _handshake_counted(self, connection: Connection, result: str, denial: Denial | None, **_: Any) -> None:
        self._handshakes[result].inc()
        if denial is not None:
            self._rejections.get(denial.reason, self._other_rejections).inc()
            if denial.reason in FAILED:
                self._attempts["failed"][offered_in(connection, denial)].inc()
        elif result == "accepted":
            kind = "" if connection.identity is None else connection.identity.kind
            self._attempts["accepted"][method_of(kind)].inc()
            self._handshake_seconds.observe(time.monotonic() - connection.opened_at)

    def _end_counted(self, connection: Connection, initiator: str, **_: Any) -> None:
        reason = NONE if connection.denial is None else connection.denial.reason
        self._ends[initiator][reason].inc()
        self._seconds.observe(time.monotonic() - connection.opened_at)
        # At the end of the process none runs any more.
        traffic = self._traffic_of(registry(connection.loop))
        traffic.ended = traffic.ended[0] + connection.received, traffic.ended[1] + connection.sent

    def _sockets_counted(self, connections: Registry, database_is_away: bool, **_: Any) -> None:
        self._count_sockets(connections, self._traffic_of(connections))
        self._queue.set(audit.queue_size())
        self._unwritable.set(not audit.is_writable())
        self._degraded["database"].set(database_is_away)
        snapshot, age = blocklist.current(), blocklist.age(time.monotonic())
        if snapshot is not None and age < math.inf:
            self._age.set(age)
            self._blocked_users.set(len(snapshot.users))

    def _store_degraded(self, **_: Any) -> None:
        self._degraded["shared"].set(1)

    def _store_recovered(self, **_: Any) -> None:
        self._degraded["shared"].set(0)

    # ------------------------------------------------------------------------------------------------------------------

    def _traffic_of(self, connections: Registry) -> Traffic:
        return self._traffic.setdefault(connections, Traffic())

    def _count_sockets(self, connections: Registry, traffic: Traffic) -> None:
        """Without a suspension: what ends meanwhile would be counted twice, or not at all."""
        received, sent = traffic.ended
        kinds: dict[str, int] = {}
        for connection in connections.by_id.values():
            identity = connection.identity
            if identity is not None and connection.accepted:
                received += connection.received
                sent += connection.sent
                kinds[identity.kind] = kinds.get(identity.kind, 0) + 1
        self._received.inc(max(0, received - traffic.counted[0]))
        self._sent.inc(max(0, sent - traffic.counted[1]))
        traffic.counted = received, sent
        traffic.live = Tally()
        for kind, count in kinds.items():
            traffic.live[method_of(kind)] += count
        for method, gauge in self._connections.items():
            gauge.set(sum(each.live[method] for each in list(self._traffic.values())))


def method_of(kind: str) -> str:
    """What an identity's kind counts as: the first of several credentials, and `other` for a project's own."""
    first = kind.partition("+")[0]
    return first if first in METHODS else OTHER


def offered_in(connection: Connection, denial: Denial) -> str:
    """What a refused handshake offered; of several credentials the one that no browser sends by itself."""
    handshake = connection.handshake
    has_session = django_settings.SESSION_COOKIE_NAME in handshake.cookies
    if denial.ambient:
        return "session" if has_session else "jwt"
    if TICKET_PARAMETER in handshake.query or any(name.startswith(TICKET_PREFIX) for name in handshake.subprotocols):
        return "ticket"
    if any(find_offers(handshake, connection.settings, ("bearer",))):
        return "jwt"
    return "session" if has_session else OTHER


def _counter(name: str, text: str, to: CollectorRegistry, labels: Iterable[str] = ()) -> Counter:
    return Counter(f"{PREFIX}{name}", text, labels, registry=to)


def _gauge(name: str, text: str, to: CollectorRegistry, labels: Iterable[str] = (), mode: Any = "livesum") -> Gauge:
    return Gauge(f"{PREFIX}{name}", text, labels, registry=to, multiprocess_mode=mode)


def connect() -> None:
    """Count in the registry that everybody serves; called once, when Django starts.

    A folder that cannot be used must not keep the project from starting.
    """
    try:
        Metrics().connect()
    except (OSError, ValueError) as error:
        logger.error("metrics.unavailable", extra={"error": type(error).__name__})
