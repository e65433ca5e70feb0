"""Whose folders of a spool are taken over, and when."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channels_secure import audit
from channels_secure.audit import folders, lines, spooling
from channels_secure.models import AuditEvent
from channels_secure.supervisor import leases
from tests.audit.writers import single

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, settings: Any) -> Iterator[Path]:
    settings.CHANNELS_SECURE = {"AUDIT_SPOOL_DIR": str(tmp_path / "spool")}
    audit.reset()
    yield tmp_path / "spool"
    audit.reset()


def left_behind(directory: Path) -> Path:
    """What a process leaves that was killed."""
    folder, lock = folders.claim(directory)
    folders.file(folder, 1).write_bytes(lines.whole(single(path="/left/")))
    os.close(lock)
    return folder


def heard(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "channels_secure"]


def test_what_another_account_has_left_is_not_taken_for_our_own(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever may make folders there could otherwise have events stored, and sealed, that never happened."""
    folder, account = left_behind(directory), os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "geteuid", lambda: account + 1)
        for _ in range(3):
            spooling._state.looked_at = -spooling.LOOK
            with caplog.at_level(logging.ERROR):
                assert spooling.adopt() == 0
    assert heard(caplog) == ["audit.spool_unreadable"]
    assert folder.exists()
    spooling.reset()
    assert spooling.adopt() == 1
    assert AuditEvent.objects.get().path == "/left/"


def test_a_link_is_no_folder(directory: Path, tmp_path: Path) -> None:
    elsewhere = left_behind(tmp_path / "elsewhere")
    directory.mkdir()
    (directory / elsewhere.name).symlink_to(elsewhere)
    assert spooling.adopt() == 0
    assert elsewhere.exists()


def test_a_folder_that_vanishes_meanwhile_is_no_trouble(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert folders.inherit(directory / "1-0123456789ab") is None
    assert heard(caplog) == []


def test_what_the_dead_have_left_is_read_before_others_say_how_their_sockets_ended() -> None:
    """On one machine: else a socket that has an end in the spool would get another one."""
    assert spooling.LOOK < leases.LEASE - leases.RENEWAL
