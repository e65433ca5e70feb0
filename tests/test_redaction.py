"""The log filter, against the log calls that servers really make."""

import io
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from daphne.management.commands.runserver import Command
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings
from uvicorn.logging import AccessFormatter, DefaultFormatter
from uvicorn.middleware.message_logger import message_with_placeholders
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from channels_secure import redaction
from channels_secure.redaction import HIDDEN, LOGGERS, WITHHELD, RedactTokens, install, redact

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoiMSJ9.dGhlLXNpZ25hdHVyZS1pcy1oZXJl"
TICKET = "q2uX0v9Zk3mT5bN8hR1cL6wE4sA7dF0g"
SECRETS = (JWT, TICKET, *JWT.split("."))

Log = Callable[..., str]


@pytest.fixture
def log() -> Iterator[Log]:
    """Log to a named logger through the installed filter; what a handler with this formatter writes."""
    install()
    handlers: list[tuple[logging.Logger, logging.Handler, int]] = []

    def write(
        name: str, message: Any, *args: Any, formatter: logging.Formatter | None = None, level: int = 20, **kwargs: Any
    ) -> str:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logger = logging.getLogger(name)
        handlers.append((logger, handler, logger.level))
        logger.addHandler(handler)
        logger.setLevel(1)
        logger.log(level, message, *args, **kwargs)
        logger.removeHandler(handler)
        return stream.getvalue()

    yield write
    for logger, handler, level in handlers:
        logger.removeHandler(handler)
        logger.setLevel(level)


def scope(query: str) -> Any:
    return {
        "type": "websocket",
        "path": "/ws/chat/",
        "query_string": query.encode(),
        "client": ("192.0.2.1", 50000),
        "headers": [(b"authorization", f"Bearer {JWT}".encode())],
        "subprotocols": ["channels-secure.v1", f"channels-secure.bearer.{JWT}"],
    }


def assert_clean(text: str) -> None:
    assert text
    assert not [secret for secret in SECRETS if secret in text]


# Servers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [f"token={JWT}", f"room=1&ticket={TICKET}", f"token={TICKET}&room=1"])
@pytest.mark.parametrize("ending", ["[accepted]", "403"])
def test_uvicorns_line_for_a_websocket_keeps_everything_but_the_secret(log: Log, query: str, ending: str) -> None:
    given_scope = scope(query)
    arguments = (get_client_addr(given_scope), get_path_with_query_string(given_scope))
    written = log(
        "uvicorn.error", f'%s - "WebSocket %s" {ending}', *arguments, formatter=DefaultFormatter("%(message)s")
    )
    assert_clean(written)
    assert written.startswith('192.0.2.1:50000 - "WebSocket /ws/chat/?')
    assert written.endswith(f'" {ending}\n')
    assert HIDDEN in written


def test_uvicorns_line_with_a_status_keeps_its_number(log: Log) -> None:
    written = log("uvicorn.error", '%s - "WebSocket %s" %d', "192.0.2.1:5", f"/ws/?token={JWT}", 401)
    assert written == f'192.0.2.1:5 - "WebSocket /ws/?token={HIDDEN}" 401\n'


def access(log: Log, method: str, path: str) -> str:
    formatter = AccessFormatter('%(client_addr)s - "%(request_line)s" %(status_code)s', use_colors=False)
    arguments = ("192.0.2.1:5", method, path, "1.1", 200)
    return log("uvicorn.access", '%s - "%s %s HTTP/%s" %d', *arguments, formatter=formatter)


def test_uvicorns_access_formatter_still_gets_its_five_arguments(log: Log) -> None:
    written = access(log, "GET", f"/page?token={JWT}&x=1")
    assert written == f'192.0.2.1:5 - "GET /page?token={HIDDEN}&x=1 HTTP/1.1" 200 OK\n'


def test_a_client_cannot_break_the_access_log_with_a_method_that_looks_like_a_scheme(log: Log) -> None:
    assert access(log, "BEARER", "/page") == '192.0.2.1:5 - "BEARER /page HTTP/1.1" 200 OK\n'


def test_uvicorns_trace_of_the_scope_is_clean(log: Log) -> None:
    traced = {**message_with_placeholders(scope(f"ticket={TICKET}")), "raw": [(b"authorization", f"Bearer {JWT}")]}
    written = log("uvicorn.asgi", "%s [%d] Started scope=%s", "192.0.2.1:5 - ASGI", 1, traced, level=5)
    assert_clean(written)
    assert "/ws/chat/" in written


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", f"Bearer {JWT}"),
        ("Authorization", f"bearer   {TICKET}"),
        ("Sec-WebSocket-Protocol", f"channels-secure.v1, channels-secure.bearer.{JWT}"),
        ("Sec-WebSocket-Protocol", f"channels-secure.ticket.{TICKET}, chat"),
        ("Cookie", f"theme=dark; sessionid={TICKET}; access_token={JWT}; lang=en"),
        ("Cookie", f"access_token={JWT}"),
    ],
)
def test_websockets_debug_lines_of_headers_are_clean(log: Log, header: str, value: str) -> None:
    written = log("uvicorn.error", "< %s: %s", header, value, level=10)
    assert_clean(written)
    assert written.startswith(f"< {header}: ")


def test_other_cookies_and_subprotocols_stay(log: Log) -> None:
    written = log("uvicorn.error", "< %s: %s", "Cookie", f"theme=dark; sessionid={TICKET} lang=en")
    assert written == f"< Cookie: theme=dark; sessionid={HIDDEN} lang=en\n"
    offered = f"channels-secure.v1, channels-secure.bearer.{JWT}, chat"
    assert redact(offered) == f"channels-secure.v1, channels-secure.bearer.{HIDDEN}, chat"


def test_frames_that_are_shown_as_objects_are_clean(log: Log) -> None:
    class Frame:
        def __str__(self) -> str:
            return f"""TEXT '{{"type": "refresh_token", "token": "{TICKET}"}}' [60 bytes]"""

    written = log("uvicorn.error", "< %s", Frame(), level=10)
    assert_clean(written)
    assert "refresh_token" in written


@pytest.mark.parametrize("action", ["connected", "disconnected", "connecting", "rejected"])
def test_daphnes_runserver_lines_are_clean_and_its_details_are_left_alone(log: Log, action: str) -> None:
    details = {"path": f"/ws/?token={JWT}", "client": "192.0.2.1:5"}
    command = Command(no_color=True)
    log("django.channels.server", "the handler is attached while this line is written")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger("django.channels.server").addHandler(handler)
    command.log_action("websocket", action, details)
    logging.getLogger("django.channels.server").removeHandler(handler)
    assert stream.getvalue().endswith(f"/ws/?token={HIDDEN} [192.0.2.1:5]\n")
    assert details["path"] == f"/ws/?token={JWT}"


@pytest.mark.parametrize("status", [200, 404, 500])
def test_daphnes_runserver_lines_for_http_keep_their_formats(log: Log, status: int) -> None:
    details = {
        "method": "GET", "path": f"/?ticket={TICKET}", "status": status, "time_taken": 0.123, "client": "192.0.2.1:5",
    }  # fmt: skip
    log("django.channels.server", "the handler is attached while this line is written")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger("django.channels.server").addHandler(handler)
    Command(no_color=True).log_action("http", "complete", details)
    logging.getLogger("django.channels.server").removeHandler(handler)
    assert stream.getvalue() == f"HTTP GET /?ticket={HIDDEN} {status} [0.12, 192.0.2.1:5]\n"


def test_access_loggers_that_answer_for_missing_keys_still_do(log: Log) -> None:
    class Atoms(dict[str, Any]):
        """As in hypercorn and gunicorn."""

        def __getitem__(self, key: str) -> Any:
            return super().get(key, "-")

    atoms = Atoms({"h": "192.0.2.1", "q": f"token={TICKET}", "s": 101})
    written = log("hypercorn.access", "%(h)s %(q)s %(s)d %({referer}i)s", atoms)
    assert written == f"192.0.2.1 token={HIDDEN} 101 -\n"
    assert atoms["q"] == f"token={TICKET}"


def test_djangos_warnings_are_clean_and_keep_the_request(log: Log) -> None:
    request = object()
    seen: list[Any] = []

    class Keep(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            seen.append(vars(record)["request"])
            return super().format(record)

    written = log(
        "django.request", "%s: %s", "Not Found", f"/x?token={JWT}", formatter=Keep(), extra={"request": request}
    )
    assert written == f"Not Found: /x?token={HIDDEN}\n"
    assert seen == [request]


# Forms ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"/ws/?token={JWT}",
        f"/ws/?a=b&token={TICKET}#x",
        f"/ws/?%74oken={TICKET}",
        f"/ws/?TOKEN={TICKET}",
        f"/login?next=%2Fws%3Ftoken%3D{TICKET}",
        f"token={TICKET}",
        f"Refresh(token='{TICKET}')",
        f'{{"ticket": "{TICKET}", "expires_in": 30}}',
        f"{{'token':'{TICKET}'}}",
        f"Bearer {TICKET}",
        f"authorization=Bearer%20{TICKET}",
        f"[b'authorization', b'Bearer {TICKET}']",
        f"CHANNELS-SECURE.BEARER.{TICKET}",
        f"channels-secure.ticket.{TICKET}",
        f"got {JWT}, which is odd",
        f"{JWT}=",
        f"path/{JWT}/rest",
    ],
)
def test_every_form_of_a_secret_is_redacted(text: str) -> None:
    assert_clean(redact(text))
    assert HIDDEN in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "/ws/chat/lobby/?room=1&page=2",
        "csrf_token=abc",
        "Invalid token",
        "Token has wrong type",
        "channels_secure.policy.handshake",
        "the bearer: nobody",
        "tickets=5",
        "https://eyewear.example.com/a.b.c",
        "channels-secure.v1",
        "token=",
        "/search?q=100%25+%41%42&token%5B%5D=",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_the_configured_names_count(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"TOKEN_QUERY_NAME": "jwt.v1", "TOKEN_COOKIE_NAME": "__Host-jwt"}
    settings.SESSION_COOKIE_NAME = "sid"
    for name in ("jwt.v1", "__Host-jwt", "sid", "token", "ticket"):
        assert redact(f"?{name}={TICKET}") == f"?{name}={HIDDEN}"
    assert redact(f"?jwtxv1={TICKET}") == f"?jwtxv1={TICKET}"


def test_wrong_settings_do_not_switch_the_filter_off(settings: Settings) -> None:
    settings.CHANNELS_SECURE = {"NO_SUCH_KEY": 1}
    assert_clean(redact(f"?token={TICKET}&ticket={TICKET}"))


@pytest.mark.parametrize(
    "unit",
    ["eyJ", "eyJa.", "Bearer ", "Bearer" + " " * 99, "token=", " token=", '"token":"', "token='", "%3ftoken", "'"],
)
def test_the_time_grows_with_the_length_and_not_with_its_square(unit: str) -> None:
    def seconds(length: int) -> float:
        text = (unit * length)[:length]
        started = time.process_time()
        redact(text)
        return time.process_time() - started

    # Sixteen times as long takes sixteen times as long, or 256 times if it went wrong.
    short = min(seconds(10_000) for _ in range(5))
    assert min(seconds(160_000) for _ in range(3)) < max(short, 0.0001) * 80


# Records -------------------------------------------------------------------------------------------------------------


def filtered(message: Any, *args: Any, name: str = "uvicorn.error", **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord(name, 20, __file__, 1, message, args, None)
    vars(record).update(extra)
    assert RedactTokens().filter(record) is True
    return record


def test_a_secret_that_format_and_argument_make_together_is_redacted() -> None:
    assert filtered("?token=%s", TICKET).getMessage() == f"?token={HIDDEN}"
    assert filtered("Bearer %s from %d", TICKET, 5).getMessage() == f"Bearer {HIDDEN} from 5"
    assert filtered("%(name)s=%(value)s", {"name": "ticket", "value": TICKET}).getMessage() == f"ticket={HIDDEN}"


def test_a_harmless_record_is_not_touched() -> None:
    record = filtered("%s has %d%% of %r", "alice", 5, {"a": 1})
    assert (record.msg, record.args) == ("%s has %d%% of %r", ("alice", 5, {"a": 1}))


def test_a_message_without_arguments_may_hold_a_percent_sign() -> None:
    assert filtered(f"100% token={TICKET} %s").getMessage() == f"100% token={HIDDEN} %s"


def test_messages_and_arguments_that_are_no_strings_are_redacted() -> None:
    assert filtered(ValueError(f"token={TICKET}")).getMessage() == f"token={HIDDEN}"
    assert_clean(filtered("%s %r", b"Bearer " + TICKET.encode(), [f"Bearer {TICKET}"]).getMessage())


def test_extras_are_redacted_also_in_containers() -> None:
    record = filtered("x", detail=f"Bearer {JWT}", many=[f"ticket={TICKET}", {"a": (f"token={JWT}", 5)}])
    assert vars(record)["detail"] == f"Bearer {HIDDEN}"
    assert vars(record)["many"] == [f"ticket={HIDDEN}", {"a": (f"token={HIDDEN}", 5)}]


def test_tracebacks_are_redacted(log: Log) -> None:
    try:
        raise ValueError(f"no user for {JWT}")
    except ValueError:
        written = log("uvicorn.error", "Exception in ASGI application\n", exc_info=True)
    assert_clean(written)
    assert "Traceback (most recent call last)" in written
    assert f"no user for {HIDDEN}" in written


def test_a_harmless_traceback_stays_an_exception_for_other_handlers() -> None:
    error = ValueError("nothing to hide")
    record = filtered("x", exc_info=(ValueError, error, None))
    assert record.exc_info == (ValueError, error, None)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_record_that_cannot_be_searched_is_withheld_and_nothing_is_raised() -> None:
    record = filtered("%s %s", Unprintable(), f"token={TICKET}", secret=TICKET)
    assert (record.getMessage(), hasattr(record, "secret")) == (WITHHELD, False)
    assert filtered("%d", f"token={TICKET}").getMessage() == WITHHELD
    assert filtered("%s %s", f"token={TICKET}").getMessage() == WITHHELD


def test_a_withheld_access_record_can_still_be_formatted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(redaction, "_clean_message", fail)
    record = filtered('%s - "%s %s HTTP/%s" %d', "a", "GET", f"/?token={JWT}", "1.1", 200, name="uvicorn.access")
    assert AccessFormatter("%(request_line)s", use_colors=False).format(record) == f"{HIDDEN} {HIDDEN} HTTP/{HIDDEN}"


@given(st.text(), st.lists(st.text() | st.integers() | st.none() | st.binary(), max_size=3))
def test_no_record_makes_the_filter_raise(message: str, arguments: list[Any]) -> None:
    filtered(message, *arguments)
    filtered(message, *arguments, name="channels_secure")


# The package's own logger --------------------------------------------------------------------------------------------


HOSTILE = "a\r\nERROR forged\x1b[31m\x00\x85\u2028\u202e\ud800"


def test_what_a_client_sent_cannot_forge_a_line_in_the_packages_log(log: Log) -> None:
    formatter = logging.Formatter("%(message)s %(path)s")
    written = log("channels_secure", "handshake.denied %s", HOSTILE, formatter=formatter, extra={"path": HOSTILE})
    assert written.count("\n") == 1
    assert written.isascii()
    assert written.count(r"a\r\nERROR forged\x1b[31m\x00\x85\u2028\u202e\ud800") == 2


def test_the_packages_log_is_redacted_too(log: Log) -> None:
    formatter = logging.Formatter("%(message)s %(path)s")
    assert_clean(log("channels_secure", "handshake.denied", formatter=formatter, extra={"path": f"/ws/?token={JWT}"}))


def test_printable_text_in_every_script_stays_readable(log: Log) -> None:
    assert log("channels_secure", "%s", "Ĉambro ελληνικά 日本語 🎉") == "Ĉambro ελληνικά 日本語 🎉\n"


def test_other_loggers_keep_their_line_breaks(log: Log) -> None:
    assert log("uvicorn.error", "Exception in ASGI application\n") == "Exception in ASGI application\n\n"


# Installation --------------------------------------------------------------------------------------------------------


def test_installing_twice_installs_once() -> None:
    install()
    install()
    for name in LOGGERS:
        filters = [item for item in logging.getLogger(name).filters if isinstance(item, RedactTokens)]
        assert len(filters) == 1, name


def test_the_loggers_of_every_server_are_covered() -> None:
    assert {"uvicorn.access", "uvicorn.error", "uvicorn.asgi", "daphne.server", "daphne.http_protocol",
            "daphne.ws_protocol", "django.channels.server", "django.server", "django.request", "hypercorn.access",
            "channels_secure"} <= set(LOGGERS)  # fmt: skip
