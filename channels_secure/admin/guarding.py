"""What stands between an operator and the wrong click: what speaks against a block, and one click that counts once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from channels_secure import blocklist
from channels_secure.admin.operators import client_address
from channels_secure.admin.preview import Preview, preview
from channels_secure.admin.standing import networks_around
from channels_secure.audit import plain
from channels_secure.conf import get_settings
from channels_secure.models import Block, checked_network, policy_change
from channels_secure.policy.addresses import network_for

# A block of so few people is nobody's mistake about a network.
FEW_PEOPLE = 3
MOST_STANDING = 10
# The same operator who asks for the same again within this time means the same.
DOUBLE_CLICK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A block that is about to be made.

    Args:
        hazards: what speaks against it, in words; with any, the operator has to type the subject.
        standing: the blocks in force that keep the whole subject out already.
    """

    user: Any = None
    network: str | None = None
    preview: Preview
    hazards: tuple[str, ...]
    standing: tuple[Block, ...]

    @property
    def subject(self) -> str:
        """What the operator types, as it is shown."""
        return self.network or name_of(self.user)

    def is_confirmed_by(self, text: str) -> bool:
        return not self.hazards or text == self.subject


def plan_of(request: HttpRequest, user: Any, network: str | None, asked: str = "") -> Plan | None:
    """What an operator is about to block; None where there is no such block. `asked` is how they named a user."""
    if (user is None) == (not network):
        return None
    try:
        text = checked_network(network) if network else None
    except ValueError:
        return None
    found = preview(user, text, request=request)
    return Plan(
        user=user,
        network=text,
        preview=found,
        hazards=tuple(_hazards(request, user, found, asked)),
        standing=tuple(_standing(user, text)),
    )


def _hazards(request: HttpRequest, user: Any, found: Preview, asked: str) -> list[str]:
    hazards = []
    if user is not None and _is_name_of_another(asked, user):
        words = _("%(asked)s is also the name of another user; this is %(name)s.")
        hazards.append(words % {"asked": plain.text(asked), "name": name_of(user)})
    if user is None and client_address(request) is None:
        hazards.append(_("Your own address cannot be told: it may be in this network."))
    if found.own and user is not None:
        hazards.append(_("This is your own account."))
    elif found.own:
        words = _("Your own address, %(address)s, is in this network.")
        hazards.append(words % {"address": client_address(request)})
    if found.staff and user is not None:
        hazards.append(_("%(name)s is a member of staff.") % {"name": name_of(user)})
    elif found.staff:
        words = _("Members of staff are connected from there: %(names)s.")
        hazards.append(words % {"names": ", ".join(found.staff)})
    if found.people > FEW_PEOPLE and found.share > get_settings().block_confirm_share:
        words = _("It cuts off %(percent)s %% of everybody who is connected, %(people)s people.")
        people = number_format(found.people, use_l10n=True, force_grouping=True)
        hazards.append(words % {"percent": max(1, round(found.share * 100)), "people": people})
    return hazards


def _is_name_of_another(asked: str, user: Any) -> bool:
    people = get_user_model()._default_manager.filter(**{get_user_model().USERNAME_FIELD: asked})
    return bool(asked) and people.exclude(pk=user.pk).exists()


def _standing(user: Any, network: str | None) -> list[Block]:
    about = Q(user=user) if network is None else Q(network__in=networks_around(network_for(network, 128)))
    rows = Block.objects.active().filter(about).select_related("user", "created_by").order_by("-created_at", "-id")
    return list(rows[:MOST_STANDING])


def make(plan: Plan, *, seconds: float | None, reason: str, by: Any) -> tuple[Block, bool]:
    """The block, and whether it is new: one that is in force already and lasts as long stays the only one."""
    with policy_change() as using:
        # The lock of every change is held: of two clicks, the second sees what the first has made.
        about = {"user": plan.user} if plan.network is None else {"network": plan.network}
        rows = Block.objects.using(using).active().filter(**about)
        again = _made_just_now(rows.filter(created_by_id=by.pk, automatic=False), seconds)
        if again is not None:
            return again, False
        known = set(rows.values_list("pk", flat=True))
        made = blocklist.block(user=plan.user, network=plan.network, duration=seconds, reason=reason, by=by)
        return made, made.pk not in known


def _made_just_now(rows: Any, seconds: float | None) -> Block | None:
    for block in rows.filter(created_at__gte=timezone.now() - DOUBLE_CLICK):
        lasts = None if block.expires_at is None else (block.expires_at - block.created_at).total_seconds()
        if lasts == seconds or (lasts is not None and seconds is not None and abs(lasts - seconds) < 1):
            found: Block = block
            return found
    return None


def outcome_of(plan: Plan, block: Block, *, is_new: bool) -> str:
    """What has been done, for the operator."""
    if not is_new:
        return _("Nothing has changed: %(subject)s was blocked already, for at least as long.") % {
            "subject": plan.subject
        }
    words = {"subject": plan.subject, "until": "" if block.expires_at is None else moment(block.expires_at)}
    # Not the subject first: the admin's messages begin with a capital.
    said = _("Blocked until %(until)s: %(subject)s.") if words["until"] else _("Blocked for ever: %(subject)s.")
    return " ".join((said % words, _closed(plan.preview)))


def _closed(found: Preview) -> str:
    if not found.connections:
        return _("No connection was open.")
    words = ngettext(
        "%(count)s open connection closes within a second or two.",
        "%(count)s open connections close within a second or two.",
        found.connections,
    )
    return words % {"count": found.shown_connections}


def moment(time: datetime) -> str:
    local = time if timezone.is_naive(time) else timezone.localtime(time)
    return f"{local:%Y-%m-%d %H:%M}"


def name_of(user: Any) -> str:
    """The name under which pages show a user; nothing for nobody."""
    return "" if user is None else plain.text(user.get_username()) or str(user.pk)
