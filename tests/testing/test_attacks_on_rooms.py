"""The ready attacks on a consumer that does much: one of the package's own rooms."""

import pytest
from django.contrib.auth.models import User

from channels_secure.testing import Verdict, attacks
from tests.rooms.people import a_room, application
from tests.sockets import quiet  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet")]


async def test_a_room_repels_all_that_applies_to_it(user: User) -> None:
    await a_room(owner=user)
    example = {"type": "room.say", "text": "hello"}
    for attack in attacks:
        result = await attack.attempt(application, "/ws/lobby/", user=user, message=example, patience=20)
        is_left_out = attack.id in ("unencrypted", "frame-not-encrypted")
        assert result.verdict is (Verdict.NOT_APPLICABLE if is_left_out else Verdict.REPELLED), result
