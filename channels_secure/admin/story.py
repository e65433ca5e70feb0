"""An event in words: one sentence that says who, when, how often and why; then what to do about it."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from channels_secure.admin import kinds
from channels_secure.admin.phrases import PHRASES, detail_of, number_of, shown, text_of
from channels_secure.admin.reasons import WHY
from channels_secure.models import AuditEvent
from channels_secure.policy.decisions import RULES, Reason, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What a page tells of an event.

    Args:
        sentence: who did what when, and why it was refused; everything from outside is escaped.
        more: what else is known, in sentences of their own.
        operator, developer: what they should do; the latter is empty where nothing was refused.
        reason, rule: how a refusal looks to the client; None where there is none.
    """

    sentence: SafeString
    more: tuple[str, ...]
    operator: str
    developer: str = ""
    reason: Reason | None = None
    rule: Rule | None = None


def tell(event: AuditEvent) -> Story:
    """The story of an event, whatever it holds: rows outlive the code that wrote them, and may have been altered."""
    reason = reason_of(event)
    sentence = _filled(_template(event, reason), event)
    if reason is None:
        return Story(sentence=sentence, more=tuple(_more(event)), operator=_advice(event))
    why = WHY[reason]
    return Story(
        sentence=sentence,
        more=tuple(_more(event)),
        operator=str(why.operator),
        developer=str(why.developer),
        reason=reason,
        rule=RULES[reason],
    )


def reason_of(event: AuditEvent) -> Reason | None:
    """Why something was refused or closed; None where the reason is an operator's words, or there is none."""
    is_known = event.kind in kinds.REFUSED and event.reason in set(Reason)
    return Reason(event.reason) if is_known else None


def _template(event: AuditEvent, reason: Reason | None) -> str:
    kind, detail = event.kind, detail_of(event)
    if reason is not None:
        is_ticket = kind == kinds.Kind.HANDSHAKE_DENIED and detail.get("at") == "ticket"
        return str(kinds.TICKET_REFUSED if is_ticket else kinds.REFUSED[kind])
    if kind == kinds.Kind.CONNECTION_CLOSED and (by := text_of(event, "by")) in kinds.CLOSED_BY:
        return str(kinds.CLOSED_BY[by])
    if detail.get("automatic") is True and kind in kinds.AUTOMATIC:
        return str(kinds.AUTOMATIC[kind])
    if kind == kinds.Kind.ROOM_MODERATED and event.reason in kinds.ROOM_ACTS:
        return str(kinds.ROOM_ACTS[event.reason])
    return str(kinds.PLAIN[kind]) if kind in kinds.PLAIN else _("Something happened {when}: {kind}.")


def _advice(event: AuditEvent) -> str:
    if event.kind == kinds.Kind.ROOM_MODERATED and event.reason == "key_replaced":
        return str(kinds.KEY_REPLACED)
    return str(kinds.ADVICE.get(event.kind, ""))


def _filled(template: str, event: AuditEvent) -> SafeString:
    made = {name: make(event) for name, make in PHRASES.items() if f"{{{name}}}" in template}
    reason = reason_of(event)
    if reason is not None and "{because}" in template:
        made["because"] = _filled(str(WHY[reason].clause), event)
    # `kind` keeps an argument in the call, without which Django 6 takes the text for one that was formatted already.
    return format_html(template, **{"kind": event.kind, **made})


def _more(event: AuditEvent) -> Iterator[str]:
    """What else the row holds that is worth a sentence."""
    if event.kind == kinds.Kind.CONNECTION_CLOSED and "duration" in detail_of(event):
        yield _course(event)
    noted = text_of(event, "detail")
    if noted and noted != event.origin:
        yield _("The server noted: “%(noted)s”.") % {"noted": noted}
    if (summed := text_of(event, "sum")) and summed in kinds.SUMS:
        yield str(kinds.SUMS[summed])
    if event.kind == kinds.Kind.AUDIT_PRUNED and detail_of(event).get("forced") is True:
        yield _("It was forced: rows went whether they verified or not.")


def _course(event: AuditEvent) -> str:
    seconds = int(number_of(event, "duration"))
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        lasted = ngettext("%(count)s hour", "%(count)s hours", hours) % {"count": shown(hours)}
    elif minutes:
        lasted = ngettext("%(count)s minute", "%(count)s minutes", minutes) % {"count": shown(minutes)}
    else:
        lasted = ngettext("%(count)s second", "%(count)s seconds", seconds) % {"count": shown(seconds)}
    counts = {
        "lasted": lasted,
        "received": shown(number_of(event, "received")),
        "sent": shown(number_of(event, "sent")),
    }
    return _("It had lasted %(lasted)s; messages received: %(received)s, sent: %(sent)s.") % counts
