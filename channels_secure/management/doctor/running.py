"""What the processes that run have written down of themselves and of their clients."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings as django_settings
from django.db.models.functions import Now
from django.utils import timezone

from channels_secure.checks.deployment import IN_MEMORY_LAYERS, MEMORY
from channels_secure.conf import get_settings
from channels_secure.management.doctor.findings import SKEW, Finding
from channels_secure.models import AuditEvent, LiveConnection, LiveProcess
from channels_secure.policy.addresses import PRIVATE, Proxies, parse_address

# Of how many users it is unlikely that they share an address.
CROWD = 3
LOOK_BACK = timedelta(days=1)


def examine() -> Iterator[Finding]:
    yield from _processes()
    yield from _fast_clocks()
    yield from _addresses()


def _processes() -> Iterator[Finding]:
    alive = LiveProcess.objects.filter(lease_until__gt=Now())
    count = len(set(alive.values_list("host", "pid")))
    if count < 2:
        return
    if get_settings().store["BACKEND"] == MEMORY:
        yield Finding(
            f"{count} processes serve sockets, and each counts rates and connections for itself (MemoryStore).",
            "Set STORE to channels_secure.stores.redis.RedisStore.",
        )
    layer = getattr(django_settings, "CHANNEL_LAYERS", {}).get("default", {})
    if not layer or layer.get("BACKEND") in IN_MEMORY_LAYERS:
        yield Finding(
            f"{count} processes serve sockets without a channel layer between them: groups reach one process only.",
            "Set CHANNEL_LAYERS['default'] to channels_redis.core.RedisChannelLayer.",
        )


def _fast_clocks() -> Iterator[Finding]:
    """Who has heard something in the future has a clock that is ahead of the database's."""
    future = LiveConnection.objects.live().filter(opened_at__gt=Now() + timedelta(seconds=SKEW))
    for host in sorted(set(future.values_list("process__host", flat=True))):
        yield Finding(
            f"The clock of {host} is ahead of the database's.",
            "Synchronise both machines' clocks (NTP): revocations and tokens are judged by the time.",
        )


def _addresses() -> Iterator[Finding]:
    """Many users behind one private address are behind a proxy that is not known for one."""
    proxies = get_settings().proxies
    address = _only_address()
    parsed = None if address is None else parse_address(address)
    if parsed is None or not PRIVATE.contains(parsed) or django_settings.DEBUG:
        return
    if proxies.trusts(address, parsed):
        yield Finding(
            f"All clients have the address of the trusted proxy {address}.",
            f"Let the proxy append the client's address to {_header(proxies)}.",
        )
    else:
        yield Finding(
            f"All clients have the same private address, {address}: a proxy that is not trusted, by the looks of it.",
            f"Set TRUSTED_PROXIES to [{address!r}], or to its network, and let it send {_header(proxies)}.",
        )


def _only_address() -> str | None:
    """The address that all users share, of those connected and of those who came in the last day; None if several."""
    recent = AuditEvent.objects.filter(
        kind=AuditEvent.Kind.CONNECTION_ACCEPTED, created_at__gt=timezone.now() - LOOK_BACK
    )
    addresses: set[str] = set()
    users: set[str] = set()
    for rows in (LiveConnection.objects.live().order_by(), recent.order_by()):
        addresses |= set(rows.exclude(ip="").values_list("ip", flat=True).distinct()[:2])
        users |= set(rows.exclude(username="").values_list("username", flat=True).distinct()[:CROWD])
    return addresses.pop() if len(addresses) == 1 and len(users) >= CROWD else None


def _header(proxies: Proxies) -> str:
    return proxies.header.decode("ascii").title()
