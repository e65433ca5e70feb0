"""Every row that is data, through the ASGI communicator."""

import pytest
from django.test import override_settings

import tests.conformance.handshakes
import tests.conformance.messages  # noqa: F401 - these two fill the table
from channels_secure import audit, database
from tests.conformance import drive
from tests.conformance.conftest import QuietLog, audit_rows
from tests.conformance.table import ALLOWED_ORIGIN, CANARY, TABLE, Handshake, Message
from tests.conformance.world import World

HANDSHAKES = [case for case in TABLE.values() if isinstance(case, Handshake) and "communicator" in case.on]
MESSAGES = [case for case in TABLE.values() if isinstance(case, Message) and "communicator" in case.on]
SETTINGS = {"ALLOWED_ORIGINS": [ALLOWED_ORIGIN]}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("http_response", [True, False], ids=["uvicorn-like", "daphne-like"])
@pytest.mark.parametrize("case", HANDSHAKES, ids=lambda case: case.id)
async def test_a_handshake_ends_as_the_table_says(case: Handshake, http_response: bool, world: World, quiet: QuietLog) -> None:
    request = await database.run(case.request, world)
    with override_settings(CHANNELS_SECURE={**SETTINGS, **case.settings}):
        await drive.shake(case, request, http_response=http_response)
    assert not quiet.errors()
    stored = str(await database.run(audit_rows))
    for secret in world.secrets:
        assert secret not in quiet.text()
        assert secret not in stored


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case.id)
async def test_a_message_is_answered_as_the_table_says(case: Message, quiet: QuietLog) -> None:
    with override_settings(CHANNELS_SECURE=SETTINGS):
        await drive.speak(case)
    await audit.flush()
    assert not quiet.errors()
    assert CANARY not in quiet.text()
    assert CANARY not in str(await database.run(audit_rows))
