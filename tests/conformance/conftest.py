"""The people of the table, the log that must stay quiet, and the outcome of each case for the page."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from channels_secure.models import AuditEvent
from tests.conformance.world import World

# What servers and frameworks say when something went wrong that nobody caught.
FOREIGN_LOGGERS = ("asyncio", "channels", "daphne", "uvicorn", "django", "twisted")


@pytest.fixture
def world(transactional_db: None) -> World:
    return World()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> "Iterator[QuietLog]":
    """Collects the log; the test says at its end what may stand in it."""
    caplog.set_level(logging.DEBUG)
    yield QuietLog(caplog)


class QuietLog:
    """The log of one test, with everything that a formatter could make of a record."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog

    def text(self) -> str:
        return "\n".join(f"{record.getMessage()} {vars(record)}" for record in self.caplog.records)

    def errors(self) -> list[str]:
        return [
            f"{record.name}: {record.getMessage()}"
            for record in self.caplog.records
            if record.levelno >= logging.ERROR or record.exc_info
        ]

    def foreign_errors(self) -> list[str]:
        return [line for line in self.errors() if line.startswith(FOREIGN_LOGGERS)]


def audit_rows() -> list[dict[str, Any]]:
    return list(AuditEvent.objects.order_by("id").values())


@pytest.fixture(scope="module")
def stored(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[DjangoDbBlocker]:
    """Leave to commit rows that outlast a test: live servers are other processes."""
    yield django_db_blocker
