"""Every row that is data, through the ASGI communicator."""

import asyncio
from itertools import groupby
from typing import Any

import pytest
from django.test import override_settings

import tests.conformance.catalogue  # noqa: F401 - fills the table
from channels_secure import database
from tests.conformance import drive
from tests.conformance.conftest import Judge, QuietLog
from tests.conformance.table import CANARY, SETTINGS, TABLE, Case, Handshake, Message, Refresh, configured
from tests.conformance.world import World

pytestmark = pytest.mark.django_db(transaction=True)


def by_row(kind: type, driver: str) -> list[Any]:
    """The cases of one kind, as one parameter per row of the specification."""
    cases = sorted(
        (case for case in TABLE.values() if isinstance(case, kind) and driver in case.on), key=lambda case: case.row
    )
    return [pytest.param(list(members), id=f"row-{row}") for row, members in groupby(cases, key=lambda case: case.row)]


@pytest.mark.parametrize("cases", by_row(Handshake, "communicator"))
async def test_handshakes_end_as_the_table_says(cases: list[Handshake], judge: Judge, quiet: QuietLog) -> None:
    for case in cases:
        for http_response in (True, False):
            with judge.case(case.id, "communicator"), configured(case):
                world = await database.run(World)
                request = await database.run(case.request, world)
                async with asyncio.timeout(10):
                    await drive.shake(case, request, http_response=http_response, secrets=world.secrets)
                log = quiet.take()
                for secret in world.secrets:
                    assert secret not in log
            await drive.settle()


@pytest.mark.parametrize("cases", by_row(Message, "communicator"))
async def test_messages_are_answered_as_the_table_says(cases: list[Message], judge: Judge, quiet: QuietLog) -> None:
    with override_settings(CHANNELS_SECURE=SETTINGS):
        for case in cases:
            with judge.case(case.id, "communicator"):
                async with asyncio.timeout(10):
                    await drive.speak(case)
                assert CANARY not in quiet.take()
            await drive.settle()


@pytest.mark.parametrize("cases", by_row(Refresh, "communicator"))
async def test_refreshes_end_as_the_table_says(cases: list[Refresh], judge: Judge, quiet: QuietLog) -> None:
    with override_settings(CHANNELS_SECURE=SETTINGS):
        for case in cases:
            with judge.case(case.id, "communicator"):
                world = await database.run(World)
                request = await database.run(case.opened, world)
                text = await database.run(case.frame, world)
                async with asyncio.timeout(10):
                    await drive.refresh(case, request, text, secrets=world.secrets)
                log = quiet.take()
                assert not [secret for secret in world.secrets if secret in log]
            await drive.settle()


def test_every_case_is_run_somewhere() -> None:
    nowhere: list[Case] = [case for case in TABLE.values() if not case.on]
    assert nowhere == []
