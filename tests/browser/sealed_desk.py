"""What the test of sealed rooms asks of the server's database, in a process of its own: Playwright runs an event loop.

`python -m tests.browser.sealed_desk make | leave <user> | stored | epochs` answers with JSON.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def ask(environ: Mapping[str, str], *words: str) -> Any:
    command = [sys.executable, "-W", "error", "-m", "tests.browser.sealed_desk", *words]
    done = subprocess.run(command, cwd=ROOT, env=dict(environ), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def main(word: str, *rest: str) -> Any:
    import django

    django.setup()
    from channels_secure.rooms import membership
    from channels_secure.rooms.models import Epoch, PublicKey, WrappedKey

    if word == "make":
        return make()
    if word == "leave":
        membership.leave("vault", rest[0])
        return None
    if word == "stored":
        return repr([list(model.objects.values()) for model in (PublicKey, Epoch, WrappedKey)])
    epochs = Epoch.objects.order_by("number")
    return [sorted(epoch.boxes.values_list("fingerprint", flat=True)) for epoch in epochs]


def make() -> dict[str, tuple[int, str]]:
    """An encrypted room of two; the primary keys and sessions of both."""
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from channels_secure.rooms.models import Membership, Room
    from channels_secure.testing import log_in

    call_command("migrate", verbosity=0)
    ann, ben = (User.objects.create_user(name) for name in ("ann", "ben"))
    room = Room(slug="vault", title="Vault", owner=ann, visibility="private", encrypted=True)
    room.save()
    Membership(room=room, user=ben).save()
    return {user.username: (user.pk, log_in(user)) for user in (ann, ben)}


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout)
