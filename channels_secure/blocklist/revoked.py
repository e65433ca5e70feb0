"""The revocations as this process knows them: which handshakes they refuse, and which open sockets they end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf

from channels_secure.auth.base import Identity, digest_of
from channels_secure.models import RECHECK, Revocation
from channels_secure.policy.addresses import network_for
from channels_secure.policy.decisions import Reason
from channels_secure.policy.networks import IPNetwork, NetworkMap

Kind = Revocation.Kind
Row = tuple[int, str, str, str, datetime]
COLUMNS = ("id", "kind", "subject", "reason", "not_before")

# Seconds by which the clocks of two machines may differ.
SKEW = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One revocation.

    Args:
        not_before: Unix time up to which issued tokens are concerned.
        until: monotonic seconds of this process; sockets that were opened later are not concerned, unless what opened
            them is worthless, however long the row took to be committed and whatever the clock of who made it.
    """

    id: int
    kind: str
    subject: str
    reason: str
    not_before: float
    until: float = field(compare=False)

    @property
    def is_recheck(self) -> bool:
        return self.reason == RECHECK

    @property
    def is_lasting(self) -> bool:
        """Whether it is about a credential, which stays worthless, rather than about what is open at the moment."""
        return self.reason == Reason.CREDENTIALS_REVOKED or (
            self.kind == Kind.SESSION and self.reason == Reason.SESSION_ENDED
        )

    @property
    def is_about_credentials(self) -> bool:
        """Whether the socket itself shows that it is concerned: handshakes with the same credential are refused."""
        return self.is_lasting and self.kind in (Kind.USER, Kind.SESSION, Kind.JTI)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known of the moment at which rows were read; monotonic seconds.

    Args:
        ended: when they had been read.
        known_at: what is new was committed after this, so that sockets opened before it are concerned for sure; minus
            infinity if that is not known.
        offset: Unix time minus monotonic time.
    """

    ended: float
    known_at: float
    offset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """The active revocations of one moment, or the newest of them.

    Args:
        changes: by the row's id, the newest first.
        is_partial: there are more, so that memory cannot say that something has not been revoked.
        credentials: of each kind, the subjects that are worthless, with the Unix time up to which they are.
        passing: the other changes, which are about open sockets, by kind and subject.
        networks: those of them that are about addresses.
    """

    changes: Mapping[int, Change] = field(default_factory=dict)
    is_partial: bool = False
    credentials: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    passing: Mapping[tuple[str, str], Sequence[Change]] = field(default_factory=dict)
    networks: NetworkMap[list[Change]] = field(default_factory=NetworkMap)

    def refuses(self, identity: Identity) -> bool:
        """Whether a credential has been revoked, as far as these rows say."""
        if not self._of(Kind.JTI).keys().isdisjoint(identity.jtis):
            return True
        if identity.session_key is not None and digest_of(identity.session_key) in self._of(Kind.SESSION):
            return True
        if identity.issued_at is None or identity.is_anonymous:
            return False
        return identity.issued_at <= self._of(Kind.USER).get(str(identity.user.pk), -inf)

    def _of(self, kind: str) -> Mapping[str, float]:
        return self.credentials.get(kind, {})

    def since(self, earlier: "Revoked | None") -> list[Change]:
        """What these rows have and earlier ones had not, the oldest first."""
        known: Mapping[int, Change] = {} if earlier is None else earlier.changes
        # Mostly it is the same object, and comparing two field by field takes a microsecond.
        return [
            change
            for key, change in self.changes.items()
            if (before := known.get(key)) is not change and before != change
        ][::-1]


NOTHING = Revoked()


def by_network(changes: Iterable[Change]) -> NetworkMap[list[Change]]:
    """Changes of addresses by their network; what SQL wrote wrongly is about nobody."""
    found: dict[IPNetwork, list[Change]] = {}
    for change in changes:
        try:
            found.setdefault(network_for(change.subject, 128), []).append(change)
        except ValueError:
            continue
    return NetworkMap(found.items())


def build(
    rows: Iterable[Row],
    before: Revoked,
    look: Look,
    *,
    ids: Iterable[int] | None = None,
    is_partial: bool = False,
) -> Revoked:
    """The revocations of some rows, and of those known before that are still there.

    Args:
        ids: of all that are there, if that is more than the rows.
    """
    known = before.changes
    # What lies below them was left out before, not made since.
    oldest = min(known) if before.is_partial and known else 0
    blind = replace(look, known_at=-inf)
    read = {row[0]: _change(row, blind if row[0] < oldest else look) for row in rows}
    changes = {}
    for key in sorted(read if ids is None else ids, reverse=True):
        # What is known stays as it was first seen, unless SQL has made something else of it.
        change = known[key] if key in known and read.get(key, known[key]) == known[key] else read.get(key)
        if change is not None:
            changes[key] = change
    return _arrange(changes, is_partial)


def _arrange(changes: Mapping[int, Change], is_partial: bool) -> Revoked:
    credentials: dict[str, dict[str, float]] = {}
    passing: dict[tuple[str, str], list[Change]] = {}
    for change in changes.values():
        if change.is_lasting:
            subjects = credentials.setdefault(change.kind, {})
            subjects[change.subject] = max(change.not_before, subjects.get(change.subject, -inf))
        else:
            passing.setdefault((change.kind, change.subject), []).append(change)
    return Revoked(
        changes=changes,
        is_partial=is_partial,
        credentials=credentials,
        passing=passing,
        networks=by_network(change for (kind, _), group in passing.items() if kind == Kind.ADDRESS for change in group),
    )


def _change(row: Row, look: Look) -> Change:
    key, kind, subject, reason, moment = row
    not_before = moment.timestamp()
    # Whoever connected after we had read the row was judged after it was made. Of those who connected between the last
    # look and this one, the clocks decide; only an error of theirs beyond SKEW could spare one.
    until = max(look.known_at, min(look.ended, not_before - look.offset + SKEW))
    if reason == RECHECK and look.known_at > -inf:
        # Looking once too often costs a query.
        until = look.ended
    return Change(id=key, kind=kind, subject=subject, reason=reason, not_before=not_before, until=until)
