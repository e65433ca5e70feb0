"""What the page of an event shows besides its fields: the story, its proof, what is around it, what can be done."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.admin import AdminSite
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.translation import gettext as _

from channels_secure.admin import buttons
from channels_secure.admin.around import neighbours_of, timeline_of
from channels_secure.admin.forms import DURATIONS
from channels_secure.admin.preview import Preview, preview
from channels_secure.admin.proof import proof_of
from channels_secure.admin.standing import Standing
from channels_secure.admin.story import tell
from channels_secure.models import AuditEvent, Block, LiveConnection
from channels_secure.policy.addresses import network_for

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Text = str | _StrPromise
else:
    Text = object


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom the event is about, as a user or as an address: where their events are, and how to stop them.

    Args:
        block_page: where the form posts to; empty for who may not block, for what cannot be, and for who is already.
        field: the field of that form that names them, with `value`.
        block: the page of the block in force; `is_blocked` also says so to those who may not see it.
    """

    label: Text
    name: str
    button: str
    field: str
    value: str
    events_page: str
    earlier: str
    later: str
    block_page: str = ""
    preview: Preview | None = None
    is_blocked: bool = False
    block: str = ""
    disconnect_page: str = ""

    @property
    def can_act(self) -> bool:
        return bool(self.block_page or self.is_blocked or self.disconnect_page)


def context_of(event: AuditEvent, site: AdminSite, request: HttpRequest, standing: Standing | None) -> dict[str, Any]:
    """What the template of the page needs; a constant number of queries."""
    page = _Page(event, site, request, standing or Standing())
    subjects = [subject for subject in (page.user(), page.address()) if subject is not None]
    return {
        "story": tell(event),
        "proof": proof_of(event),
        "timeline": timeline_of(event),
        "subjects": subjects,
        "can_act": any(subject.can_act for subject in subjects) or bool(page.disconnect_page),
        "disconnect_page": page.disconnect_page,
        "durations": DURATIONS,
        "reason_events": buttons.events(site, request, reason=event.reason, period="24h") if event.reason else "",
        "connection_events": buttons.events(site, request, connection_id=event.connection_id),
    }


class _Page:
    def __init__(self, event: AuditEvent, site: AdminSite, request: HttpRequest, standing: Standing) -> None:
        self.event, self.site, self.request, self.standing = event, site, request, standing
        self.disconnect_page = self._disconnect_page()

    def user(self) -> Subject | None:
        event = self.event
        if event.user_id is None:
            return None
        person = get_user_model()._base_manager.filter(pk=event.user_id).first()
        if person is None:
            return None
        may = "" if self.standing.user else buttons.block_user(self.site, self.request, event.user_id)
        return Subject(
            label=_("User"),
            name=event.username or str(event.user_id),
            button=_("Block this user"),
            field="user",
            value=str(event.user_id),
            events_page=buttons.events(self.site, self.request, user=event.user_id),
            block_page=may,
            preview=preview(user=person, request=self.request) if may else None,
            disconnect_page=buttons.disconnect(self.site, self.request, user=event.user_id),
            **self._found(self.standing.user, user=event.user_id),
        )

    def address(self) -> Subject | None:
        event = self.event
        if not event.ip:
            return None
        may = "" if self.standing.network else buttons.block_address(self.site, self.request, event.ip)
        is_one = _is_network(event.ip)
        return Subject(
            label=_("Address"),
            name=event.ip,
            button=_("Block this address"),
            field="network",
            value=event.ip,
            events_page=buttons.events(self.site, self.request, ip=event.ip),
            block_page=may,
            preview=preview(network=event.ip, request=self.request) if may else None,
            disconnect_page=buttons.disconnect(self.site, self.request, ip=event.ip) if is_one else "",
            **self._found(self.standing.network, ip=event.ip),
        )

    def _disconnect_page(self) -> str:
        """Where the event's own connection is ended, while it is open."""
        key = self.event.connection_id
        page = buttons.disconnect(self.site, self.request, connection=key) if key else ""
        return page if page and LiveConnection.objects.live().filter(pk=key).exists() else ""

    def _found(self, block: Block | None, **same: object) -> dict[str, Any]:
        """The events next to this one, and the block in force."""
        near = neighbours_of(self.event, **same)
        may_view = block is not None and self.request.user.has_perm("channels_secure.view_block")
        return {
            "earlier": self._page("auditevent_change", near.earlier),
            "later": self._page("auditevent_change", near.later),
            "is_blocked": block is not None,
            "block": self._page("block_change", block.pk) if block is not None and may_view else "",
        }

    def _page(self, name: str, key: int | None) -> str:
        return "" if key is None else buttons.page(self.site, name, key)


def _is_network(text: str) -> bool:
    try:
        network_for(text, 128)
    except ValueError:
        return False
    return True
