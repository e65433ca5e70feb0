"""Whether a credential has been revoked."""

from django.db import router
from django.db.models import Q

from channels_secure import blocklist, database
from channels_secure.auth.base import Identity, digest_of
from channels_secure.blocklist.revoked import COLUMNS, NOTHING, Look, build
from channels_secure.models import Revocation

Kind = Revocation.Kind


async def is_revoked(identity: Identity) -> bool:
    """Whether the token or session behind an identity no longer counts, by the snapshot in force.

    Asks memory only, unless there are more revocations than a process keeps there.

    Raises:
        django.db.Error: the database is away, and had to be asked.
    """
    snapshot = blocklist.current()
    if snapshot is None:
        await blocklist.refresh()
        snapshot = blocklist.current()
    if snapshot is not None and snapshot.revoked.refuses(identity):
        return True
    if snapshot is not None and not snapshot.revoked.is_partial:
        return False
    return await database.run(is_stored, identity)


def is_stored(identity: Identity) -> bool:
    """The same by the database, with this thread's connection; for processes that keep no snapshot."""
    subjects = Q(kind=Kind.JTI, subject__in=identity.jtis)
    if identity.session_key is not None:
        subjects |= Q(kind=Kind.SESSION, subject=digest_of(identity.session_key))
    if not identity.is_anonymous:
        subjects |= Q(kind=Kind.USER, subject=str(identity.user.pk))
    active = Revocation.objects.using(router.db_for_write(Revocation)).active()
    rows = active.filter(subjects).values_list(*COLUMNS)
    return build(rows, NOTHING, Look(ended=0.0, known_at=0.0, offset=0.0)).refuses(identity)
