"""Whether a row is as it was recorded, and where the chain ends, for the price of a few rows.

One row and its link prove nothing about those behind it: `ws_verify_audit` goes through all of them.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from django.db import router
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels_secure.audit import checkpoints
from channels_secure.audit.examining import Examiner, Stored, all_seals
from channels_secure.audit.reading import page_of
from channels_secure.conf import get_settings
from channels_secure.models import AuditEvent, AuditHead

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Text = str | _StrPromise
else:
    Text = object

# What an examiner calls a row that was sealed without the key.
UNKEYED = "unkeyed"
# Rows that wait are counted so far.
MOST_WAITING = 1000


class State(StrEnum):
    """What can be said of a row, from best to worst."""

    VERIFIED = "verified"
    ERASED = "erased"
    WAITING = "waiting"
    UNPROVEN = "unproven"
    UNKEYED = "unkeyed"
    ALTERED = "altered"


LABELS: dict[State, Text] = {
    State.VERIFIED: _("Verified"),
    State.ERASED: _("Verified, personal data erased"),
    State.WAITING: _("Not linked yet"),
    State.UNPROVEN: _("Fits, without a key"),
    State.UNKEYED: _("Sealed without the key"),
    State.ALTERED: _("Does not verify"),
}
WORDS: dict[State, Text] = {
    State.VERIFIED: _("This row is as it was recorded, and follows the row before it."),
    State.ERASED: _("The personal fields were erased with the key; what is left is as it was recorded."),
    State.WAITING: _(
        "This row is as it was recorded. It gets its place in the chain within seconds, a sum after its minute."
    ),
    State.UNPROVEN: _(
        "This row fits its place. Without an AUDIT_KEY that proves little: whoever has the database can change it."
    ),
    State.UNKEYED: _(
        "This row fits its place, but was sealed without AUDIT_KEY: it is from before there was one, or it is forged."
    ),
    State.ALTERED: _(
        "This row, or the link to the row before it, is not what was recorded. Run ws_verify_audit --all."
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a page says of a row: its state, its place in the chain, and what exactly is wrong."""

    state: State
    position: int | None = None
    fault: str = ""

    @property
    def label(self) -> Text:
        return LABELS[self.state]

    @property
    def words(self) -> Text:
        return WORDS[self.state]


def proof_of(event: AuditEvent) -> Proof:
    """Examine the row as it is stored now, which costs three queries."""
    using = router.db_for_write(AuditEvent)
    rows = page_of(AuditEvent.objects.using(using).filter(pk=event.pk), 1)
    if not rows:
        # Pruned since the page began.
        return Proof(state=State.ALTERED, fault=gettext("The row is gone."))
    return _proof(rows[0], using)


def _proof(row: Stored, using: str) -> Proof:
    keys = get_settings().audit_key
    if row.position is None:
        examiner, best = Examiner(keys, 0, ""), State.WAITING
        fault = examiner.examine_waiting(row)
    else:
        before = _hash_before(row, row.position, using)
        if before is None:
            return Proof(state=State.ALTERED, position=row.position, fault=gettext("The row before it is missing."))
        examiner, best = Examiner(keys, row.position - 1, before), State.VERIFIED if keys else State.UNPROVEN
        fault = examiner.examine(row)
    if fault is None:
        return Proof(state=State.ERASED if examiner.erased and keys else best, position=row.position)
    if fault.what == UNKEYED:
        return Proof(state=State.UNKEYED, position=row.position)
    said = gettext("The row %(what)s.") % {"what": gettext(fault.words)}
    return Proof(state=State.ALTERED, position=row.position, fault=said)


def _hash_before(row: Stored, position: int, using: str) -> str | None:
    """The hash that stands before a place; None if there is no such row and no trusted checkpoint stands for it."""
    found = AuditEvent.objects.using(using).filter(position=position - 1).values_list("hash", flat=True).first()
    if found is not None:
        return str(found)
    keys = get_settings().audit_key
    base = checkpoints.base(using, all_seals(keys))
    is_trusted = Examiner(keys, base.position, base.hash).trusts(base, row)
    return base.hash if is_trusted and base.position == position - 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Where the chain ends, and how many rows wait for their places.

    Args:
        is_keyed: whether the settings have an AUDIT_KEY.
        is_bound: more rows wait than are counted.
    """

    position: int
    last_at: datetime | None
    waiting: int
    is_bound: bool
    is_keyed: bool


def chain_now() -> Chain:
    """The end of the chain, for three queries that indexes answer."""
    table = AuditEvent.objects.using(router.db_for_write(AuditEvent))
    head = AuditHead.objects.using(table.db).filter(pk=1).first()
    position = 0 if head is None else head.position
    last = table.filter(position=position).values_list("last_at", flat=True).first()
    waiting = table.filter(position=None).order_by()[: MOST_WAITING + 1].count()
    return Chain(
        position=position,
        last_at=last,
        waiting=min(waiting, MOST_WAITING),
        is_bound=waiting > MOST_WAITING,
        is_keyed=bool(get_settings().audit_key),
    )
