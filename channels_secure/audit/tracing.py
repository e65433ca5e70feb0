"""Finding where a row that stands in the wrong place came from."""

from collections.abc import Sequence

from channels_secure.audit.checkpoints import Base
from channels_secure.audit.examining import Stored
from channels_secure.audit.sealing import Seal
from channels_secure.models import AuditEvent

# Rows on either side that are looked through.
NEAR = 10_000


def place_of(using: str, row: Stored, seals: Sequence[Seal], base: Base) -> int | None:
    """The place near by in which a row that is wrong where it stands would be right."""
    here = row.position or 0
    table = AuditEvent.objects.using(using).filter(position__range=(here - NEAR, here + NEAR))
    stored = {place: found for place, found in table.values_list("position", "hash") if place is not None}
    hashes = {base.position: base.hash, **stored}
    for seal in seals:
        digest = seal.digest(row)
        for place, before in hashes.items():
            if seal.link(place + 1, before, digest) in {row.hash, hashes.get(place + 1)}:
                return place + 1
        # Of two neighbours that changed places, the second one's predecessor stands behind it now.
        if seal.link(here + 1, hashes.get(here + 1, ""), digest) == row.hash:
            return here + 1
    return None
