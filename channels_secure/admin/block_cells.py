"""How lists show a block: its state, who made it, since when, until when."""

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from channels_secure.admin import cells
from channels_secure.admin.guarding import moment, name_of
from channels_secure.models import Block


def state(block: Block) -> SafeString:
    if block.lifted_at is not None:
        return format_html('<span class="cs-state cs-lifted">{}</span>', _("lifted"))
    if block.is_active:
        return format_html('<span class="cs-state cs-active">{}</span>', _("active"))
    return format_html('<span class="cs-state cs-expired">{}</span>', _("expired"))


def state_and_end(block: Block) -> SafeString:
    return cells.stacked(state(block), *_end(block))


def ends(block: Block) -> SafeString:
    return cells.stacked(*_end(block))


def _end(block: Block) -> tuple[object, ...]:
    if block.lifted_at is not None:
        return moment(block.lifted_at), _("by %(who)s") % {"who": name_of(block.lifted_by) or "–"}
    if block.expires_at is None:
        return (_("for ever"),)
    return _("until %(moment)s") % {"moment": moment(block.expires_at)}, cells.ahead(block.expires_at, timezone.now())


def why(block: Block) -> SafeString:
    return cells.stacked(block.reason, _("by %(who)s") % {"who": who(block)})


def who(block: Block) -> str:
    return _("the package") if block.automatic else name_of(block.created_by) or "–"


def made(block: Block) -> SafeString:
    return cells.stacked(moment(block.created_at), cells.ago(block.created_at, timezone.now()))
