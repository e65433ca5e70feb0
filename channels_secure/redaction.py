"""Keep credentials out of logs: a filter for the loggers of the servers, of Django and of the package itself.

uvicorn writes the whole query string of every WebSocket at INFO, and all headers at DEBUG. Out of the filter's
reach is what does not go through `logging`: a proxy's logs, and Daphne's `--access-log`, which shows the query strings
of HTTP requests but not of WebSockets.
"""

import copy
import logging
import re
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from channels_secure.conf import get_settings

HIDDEN = "[redacted]"
WITHHELD = "A log record was withheld because it could not be searched for credentials."
OWN_LOGGER = "channels_secure"
# A filter on a logger does not see what is logged to its children, so each one is named.
LOGGERS = (
    "uvicorn.access", "uvicorn.error", "uvicorn.asgi", "websockets.server", "gunicorn.access", "gunicorn.error",
    "daphne.cli", "daphne.http_protocol", "daphne.server", "daphne.ws_protocol", "django.channels.server",
    "hypercorn.access", "hypercorn.error", "granian.access", "_granian",
    "django.request", "django.server", OWN_LOGGER,
)  # fmt: skip
# uvicorn's access formatter takes the arguments apart, so there must stay as many as there are.
_UNPACKED = frozenset({"uvicorn.access"})
_STANDARD = frozenset(vars(logging.makeLogRecord({})))

# A control character ends a line (CWE-117) or drives a terminal, a bidirectional one hides text, and a lone surrogate
# cannot be written at all.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# `?%74oken=` is `?token=` to whoever parses it: the escapes of letters, digits and of `-_.=?&`.
_ESCAPE = re.compile("%(26|2[dDeE]|3[0-9dDfF]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF])")
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^&\s\"'#]+)"
_CARRIER = re.compile(r"(channels-secure\.(?:bearer|ticket)\.)[^\s,;\"']+", re.IGNORECASE)
_BEARER = re.compile(r"(?<![\w-])(bearer(?:\s|%20|\+)+)[^\s,;\"']+", re.IGNORECASE | re.ASCII)
# `eyJ` is base64url for `{"`, the others for a brace and white space.
_JWT = re.compile(r"()(?<![\w-])e(?:yJ|yA|wo|w0|wk)[\w-]+(?:\.[\w-]*){1,4}=*", re.ASCII)

Clean: TypeAlias = Callable[[str], str]


class RedactTokens(logging.Filter):
    """Replaces tokens, tickets and session keys in a record's message, arguments, extras and traceback.

    Lets every record pass and raises nothing: a record that cannot be searched loses its text. In the package's own
    logger control characters are escaped too, so that what a client sent cannot forge a line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        clean = _redact_and_escape if record.name == OWN_LOGGER else redact
        try:
            _clean_message(record, clean)
            _clean_extras(record, clean)
            _clean_traceback(record)
        except Exception:  # noqa: BLE001  # logging must not fail, and what was not searched may hold a secret
            _withhold(record)
        return True


_FILTER = RedactTokens()


def install() -> None:
    """Put the filter on every logger that sees credentials; a second call changes nothing."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)


def redact(text: str) -> str:
    """The text without tokens, tickets and session keys."""
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "%" in text else text
    folded, cleaned = plain.lower(), plain
    for hint, pattern in _patterns(_names()):
        # Looking for a word costs a hundredth of what the pattern costs.
        if hint in folded:
            cleaned = pattern.sub(rf"\g<1>{HIDDEN}", cleaned)
    return text if cleaned == plain else cleaned


def _redact_and_escape(text: str) -> str:
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), redact(text))


def _names() -> tuple[str, ...]:
    """What precedes a credential in a query string, a Cookie header or a JSON body."""
    try:
        own = get_settings()
    except ImproperlyConfigured:
        return ("token", "ticket", "access_token", "sessionid")
    return ("token", "ticket", own.token_query_name, own.token_cookie_name, settings.SESSION_COOKIE_NAME)


@cache
def _patterns(names: tuple[str, ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """What to look for, each with a word that is in every text that matches."""
    named = re.compile(rf"(?<![\w-])((?i:{'|'.join(map(re.escape, names))})(?:=|[\"']\s*:\s*)){_VALUE}")
    headers = (("channels-secure.", _CARRIER), ("bearer", _BEARER))
    starts = ("eyj", "eya", "ewo", "ew0", "ewk")
    return (*((name.lower(), named) for name in names), *headers, *((start, _JWT) for start in starts))


def _clean_message(record: logging.LogRecord, clean: Clean) -> None:
    if record.args:
        record.args = _clean_arguments(record.args, clean)
        if record.name in _UNPACKED:
            return
    # What stands in the format and what in an argument may be a credential only together: "?token=%s".
    text = record.getMessage()
    cleaned = clean(text)
    if cleaned != text:
        record.msg, record.args = cleaned, ()


def _clean_arguments(arguments: Any, clean: Clean) -> Any:
    if isinstance(arguments, dict):
        # A copy of the same class, because the access loggers of hypercorn and gunicorn answer for missing keys.
        arguments = copy.copy(arguments)
        arguments.update({key: _clean_value(value, clean) for key, value in arguments.items()})
        return arguments
    if isinstance(arguments, tuple):
        return tuple(_clean_value(value, clean) for value in arguments)
    return arguments


def _clean_value(value: Any, clean: Clean) -> Any:
    """A string without credentials; anything else as it is, because its format may need its type."""
    return clean(value) if isinstance(value, str) else value


def _clean_extras(record: logging.LogRecord, clean: Clean) -> None:
    for name, value in list(vars(record).items()):
        if name not in _STANDARD:
            setattr(record, name, _clean_nested(value, clean))


def _clean_nested(value: Any, clean: Clean) -> Any:
    # Plain containers only: Django's handlers need `record.request` as the object it is.
    if type(value) in (list, tuple):
        return type(value)(_clean_nested(item, clean) for item in value)
    if type(value) is dict:
        return {key: _clean_nested(item, clean) for key, item in value.items()}
    return _clean_value(value, clean)


def _clean_traceback(record: logging.LogRecord) -> None:
    record.stack_info = record.stack_info and redact(record.stack_info)
    if not record.exc_info and not record.exc_text:
        return
    text = record.exc_text or logging.Formatter().formatException(record.exc_info)  # type: ignore[arg-type]
    cleaned = redact(text)
    if cleaned != text:
        # Some handlers format the exception themselves.
        record.exc_info, record.exc_text = None, cleaned


def _withhold(record: logging.LogRecord) -> None:
    record.exc_info = record.exc_text = record.stack_info = None
    for name in set(vars(record)) - _STANDARD:
        delattr(record, name)
    if record.name in _UNPACKED and isinstance(record.args, tuple):
        record.args = tuple(item if isinstance(item, int) else HIDDEN for item in record.args)
    else:
        record.msg, record.args = WITHHELD, ()
