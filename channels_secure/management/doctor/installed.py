"""Versions in which something is known to be wrong; the table is that of the system checks."""

from collections.abc import Iterator

from channels_secure.checks.deployment import check_versions
from channels_secure.checks.installation import check_redis_client
from channels_secure.management.doctor.findings import Finding


def examine() -> Iterator[Finding]:
    for message in (*check_versions(None), *check_redis_client(None)):
        yield Finding(str(message.msg), (message.hint or "").partition(" See ")[0])
