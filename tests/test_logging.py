"""What the log says: constant names, attributes that are JSON as they are, few records, and lines nobody forges."""

import ast
import json
import logging
import logging.config
import re
import sys
import time
from collections.abc import Iterator
from configparser import RawConfigParser
from datetime import datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User

from channels_secure import audit, blocklist
from channels_secure.audit.recorder import LOGGED
from channels_secure.models import AuditEvent
from tests.sockets import Echo, ask_raw, connect, quiet  # noqa: F401
from tests.test_docs import LOGGING_PAGE, ROOT, block

STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
FORGED = "2026-11-21T06:32:18+0000 WARNING handshake.denied ip=203.0.113.9 reason=blocked user="
HOSTILE = f"\n{FORGED}\x1b[2J\u2028\u202e\x85\r\ud800"


class Odd:
    """What only its own code can show."""

    def __str__(self) -> str:
        return "odd\nline"


UNFIT: dict[str, Any] = {
    "nan": float("nan"),
    "bytes": b"\xff\x00",
    "set": {1, 2},
    "object": Odd(),
    "huge": 10**5000,
    "time": datetime(2026, 11, 21),  # noqa: DTZ001 - as a project may pass one
    "deep": {"a": {"b": {"c": {"d": 1}}}},
    "text": HOSTILE,
    3: "a key that is no text",
}


class Lines(logging.Handler):
    """Keeps the records and what a formatter makes of them, as a file would have it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.text += self.format(record) + "\n"


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("channels_secure")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def recipe(marker: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(block(LOGGING_PAGE, marker), names)
    found: dict[str, Any] = names["LOGGING"]
    return found


def formatter_of(marker: str) -> logging.Formatter:
    """The formatter of a recipe, made as Django makes it."""
    config = recipe(marker)
    (settings,) = config["formatters"].values()
    made: logging.Formatter = logging.config.DictConfigurator(config).configure_formatter(settings)
    return made


@pytest.fixture
def json_lines(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> Lines:
    chat, logs = ModuleType("chat"), ModuleType("chat.logs")
    exec(block(LOGGING_PAGE, "json-formatter"), vars(logs))
    vars(chat)["logs"] = logs
    monkeypatch.setitem(sys.modules, "chat", chat)
    monkeypatch.setitem(sys.modules, "chat.logs", logs)
    lines.setFormatter(formatter_of("json-logging"))
    return lines


# Structured ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("kind", AuditEvent.Kind.values)
def test_every_event_of_the_trail_is_one_json_object_whatever_it_was_given(json_lines: Lines, kind: str) -> None:
    user = User(pk=7, username=HOSTILE)
    facts: Any = {"path": HOSTILE, "origin": HOSTILE, "user_agent": HOSTILE, "actor": HOSTILE, "ip": HOSTILE}
    audit.record(kind, HOSTILE, user=user, connection_id=HOSTILE, detail=UNFIT, **facts)
    audit.write(kind, HOSTILE, user=user, connection_id=HOSTILE, detail=UNFIT, **facts)
    assert [record.getMessage() for record in json_lines.records] == [kind]
    (line,) = json_lines.text.splitlines()
    assert line.isascii()
    entry = json.loads(line)
    assert (entry["event"], entry["logger"], entry["count"]) == (kind, "channels_secure", 1)
    assert set(entry) == {"time", "level", "logger", "event", *LOGGED}
    assert datetime.fromisoformat(entry["time"]).utcoffset() is not None
    # And without the formatter's help.
    extra = {name: value for name, value in vars(json_lines.records[0]).items() if name not in STANDARD}
    assert json.loads(json.dumps(extra, allow_nan=False)) == extra
    assert not re.search(
        "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]", json.dumps(extra, ensure_ascii=False)
    )


@pytest.mark.django_db(transaction=True)
def test_what_is_stored_with_a_change_is_logged_after_the_commit(json_lines: Lines, user: User) -> None:
    blocklist.block(user=user, reason="scraping")
    (entry,) = [json.loads(line) for line in json_lines.text.splitlines() if "block.created" in line]
    row = AuditEvent.objects.get(kind="block.created")
    assert (entry["uid"], entry["username"], entry["level"]) == (row.uid, "alice", "INFO")


def test_a_traceback_is_part_of_the_object(json_lines: Lines) -> None:
    try:
        raise ValueError("first line\nsecond line")
    except ValueError:
        logging.getLogger("channels_secure").exception("application.failed", extra={"connection_id": "c1"})
    (line,) = json_lines.text.splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["connection_id"]) == ("application.failed", "c1")
    assert entry["traceback"].endswith("ValueError: first line\nsecond line")


@pytest.mark.django_db
def test_a_flood_costs_the_log_no_more_than_the_table(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    within_one_minute(monkeypatch)
    for number in range(3_000):
        audit.record("handshake.denied", "rate_limited", ip="192.0.2.1")
        audit.record("handshake.denied", "bad_request", ip=f"198.51.{number // 250}.{number % 250}")
    assert len([record for record in lines.records if vars(record).get("reason") == "rate_limited"]) == 21
    assert len(lines.records) <= 600


def within_one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything be recorded at one moment: the minute would turn in one run of many."""
    moment = time.time()
    monkeypatch.setattr(audit.recorder, "time", SimpleNamespace(time=lambda: moment))


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """Every call of a logger in the package."""
    for path in sorted((ROOT / "channels_secure").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value) == "logger"
                and node.func.attr in {"debug", "info", "warning", "error", "exception"}
            ):
                yield path, node


def test_the_names_of_all_records_are_constants_and_no_attribute_is_one_of_logging_itself() -> None:
    found = list(calls())
    assert len(found) > 40
    for path, call in found:
        name = call.args[0]
        assert isinstance(name, ast.Constant), f"{path}:{call.lineno}"
        assert re.match(r"[a-z_]+(\.[a-z_]+)?(?::|$)", str(name.value)), f"{path}:{call.lineno}"
        for keyword in call.keywords:
            if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
                names = {ast.literal_eval(key) for key in keyword.value.keys if key is not None}
                assert not names & STANDARD, f"{path}:{call.lineno}"
    assert not set(LOGGED) & STANDARD


# fail2ban ------------------------------------------------------------------------------------------------------------

# What fail2ban puts in place of its tags: `<ADDR>` is an address. A name too, as in `<HOST>`, is harder to withstand.
ADDRESS = r"\[?(?P<host>(?:::f{4,6}:)?\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:]+|[\w\-.^_]*\w)\]?"
DATE = {"%%Y": r"\d{4}", "%%m": r"\d\d", "%%d": r"\d\d", "%%H": r"\d\d", "%%M": r"\d\d", "%%S": r"\d\d"}


class Jail:
    """Reads lines as fail2ban does with the filter on the page: the date is taken out first, the rest is searched."""

    def __init__(self) -> None:
        parser = RawConfigParser()
        parser.read_string(block(LOGGING_PAGE, "filter"))
        date = parser["Definition"]["datepattern"].replace("%%z", r"[+-]\d{4}")
        for tag, pattern in DATE.items():
            date = date.replace(tag, pattern)
        self._date = re.compile(date)
        (expression,) = parser["Definition"]["failregex"].splitlines()
        assert expression.count("<ADDR>") == 1
        self._failure = re.compile(expression.replace("<ADDR>", ADDRESS))

    def hosts(self, text: str) -> list[str]:
        found = []
        for line in text.split("\n"):
            date = self._date.search(line)
            failure = date and self._failure.search(line[: date.start()] + line[date.end() :])
            if failure:
                found.append(failure["host"])
        return found


@pytest.fixture
def plain_lines(lines: Lines) -> Lines:
    config = recipe("plain-logging")
    logging.config.DictConfigurator({**config, "handlers": {}, "loggers": {}})
    assert config["loggers"]["channels_secure"] == {"handlers": ["plain"], "level": "WARNING", "propagate": False}
    lines.setFormatter(formatter_of("plain-logging"))
    lines.setLevel(logging.WARNING)
    return lines


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("client", ["192.0.2.66", "2001:db8:1:2::66"])
@pytest.mark.parametrize(
    "client_text", [HOSTILE, " ip=203.0.113.9 reason=blocked user= ", "%0a\\n ip=evil.example reason="]
)
async def test_the_filter_finds_the_client_and_nobody_whom_a_client_names(
    plain_lines: Lines, client: str, client_text: str, settings: Any
) -> None:
    settings.CHANNELS_SECURE = {"HANDSHAKE_RATES": {"ip": "2/h"}}
    # In a path servers undo the escapes of line breaks; in a header they stand for themselves.
    path = "/ws/" + quote(client_text, errors="replace") + "/"
    raw = client_text.encode("utf-8", "replace")
    for _ in range(3):
        await connect(Echo, path, client=client, token="not.a.token", origin=None).shake_hands()
    await connect(Echo, path, client=client, headers=[(b"user-agent", raw)], origin=None).shake_hands()
    evil = "https://evil.example/" + raw.decode("latin-1")
    await connect(Echo, path, client="192.0.2.7", origin=evil).shake_hands()
    reasons = [vars(record).get("reason") for record in plain_lines.records]
    assert reasons[:3] == ["invalid_credentials", "invalid_credentials", "rate_limited"]
    assert reasons[3] in {"bad_request", "rate_limited"}
    assert reasons[4] in {"bad_request", "origin_malformed"}
    assert plain_lines.text.count("\n") == len(plain_lines.records)
    hosts = [host for host in Jail().hosts(plain_lines.text) if host != "192.0.2.7"]
    assert hosts == [client] * 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_a_user_whose_name_is_a_forged_line_bans_nobody_but_his_own_address(plain_lines: Lines) -> None:
    name = f"x ip=203.0.113.9 reason=blocked user=\n{FORGED}"
    user = await User.objects.acreate_user(name)
    await blocklist.ablock(user=user)
    await connect(Echo, user=user, client="192.0.2.66").shake_hands()
    assert "203.0.113.9" in plain_lines.text
    assert Jail().hosts(plain_lines.text) == ["192.0.2.66"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("quiet")
async def test_what_a_web_page_can_cause_and_what_goes_on_in_a_socket_bans_nobody(plain_lines: Lines) -> None:
    class Members(Echo):
        allow_anonymous = False

    await connect(Echo, origin="https://evil.example").shake_hands()
    await connect(Members).shake_hands()
    async with connect(Echo) as socket:
        await ask_raw(socket, "{")
    assert [vars(record)["reason"] for record in plain_lines.records] == [
        "origin_not_allowed",
        "unauthenticated",
        "invalid_message",
    ]
    assert Jail().hosts(plain_lines.text) == []


def test_the_jail_reads_the_file_that_the_recipe_writes() -> None:
    parser = RawConfigParser()
    parser.read_string(block(LOGGING_PAGE, "jail"))
    jail = parser["channels-secure"]
    assert jail["logpath"] == recipe("plain-logging")["handlers"]["plain"]["filename"]
    assert int(jail["maxretry"]) <= 20
