"""The one table of checks: id, severity, what is wrong, and what to do about it."""

from dataclasses import dataclass
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name

PAGE = "docs/reference/checks.md"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong.

    Args:
        code: the number within the package, `E` for an error and `W` for a warning.
        message: what is wrong; `{}` stands for the particulars.
        hint: what to do about it.
        deploy: looked at by `manage.py check --deploy` only.
    """

    code: str
    message: str
    hint: str
    deploy: bool = False

    @property
    def id(self) -> str:
        return f"channels_secure.{self.code}"

    def report(self, particulars: str = "", *, hint: str | None = None, obj: Any = None) -> CheckMessage:
        """The message for Django, with a hint that says more than the standing one if the finder knows it."""
        kind = Error if self.code.startswith("E") else Warning
        advice = f"{hint} {self.hint}" if hint else self.hint
        where = f"See {PAGE}#{self.code.lower()}."
        return kind(self.message.format(particulars), hint=f"{advice} {where}", obj=obj, id=self.id)


UNKNOWN_KEY = Check("E001", "{}", "Take the key out of CHANNELS_SECURE or correct its spelling.")
WRONG_VALUE = Check("E002", "{}", "Correct the value in CHANNELS_SECURE.")
WRONG_ORIGINS = Check(
    "E003",
    "{}",
    "List the exact origins of your pages, such as 'https://chat.example.com', or 'https://*.example.com' for all"
    " subdomains.",
)
WRONG_PROXIES = Check(
    "E004",
    "{}",
    "List the addresses or networks of your proxies, and 'unix' for one on a UNIX socket; [] says that there is none.",
)
APP_MISSING = Check("E005", "INSTALLED_APPS lacks {}.", "Add it to INSTALLED_APPS.")
WRONG_AUTHENTICATOR = Check(
    "E006",
    "AUTHENTICATORS: {}.",
    "Name classes that can be made without arguments and have `async def authenticate(self, handshake)`.",
)
JWT_NOT_INSTALLED = Check(
    "E007",
    "{}, but djangorestframework-simplejwt is not installed, so every token would be ignored or refused.",
    "Run `pip install channels-secure[jwt]`, or take tokens out of CHANNELS_SECURE.",
)
REDIS_TIMEOUT = Check(
    "E008",
    "redis-py {} ends every channels_redis consumer that is idle for five seconds (django/channels_redis#422).",
    "Install redis<8, or give each host in CHANNEL_LAYERS a socket_timeout of None or well above 5 seconds.",
)

BAD_DECLARATION = Check(
    "E009",
    "{}; the consumer refuses every connection.",
    "Correct the declaration: `@handles(type)` on an `async def` method with one parameter, annotated with a type that"
    " JSON objects have, such as a msgspec Struct.",
)
REDIS_NOT_INSTALLED = Check(
    "E010",
    "STORE names RedisStore, but redis-py is not installed, so that every handshake would fail.",
    "Run `pip install channels-secure[redis]`, or take STORE out of CHANNELS_SECURE.",
)
WRONG_STORE = Check(
    "E011",
    "{}.",
    "Correct the options of STORE: LOCATION, PREFIX, SOCKET_TIMEOUT.",
)
WRONG_SPOOL = Check(
    "E012",
    "AUDIT_SPOOL_DIR {}.",
    "Name a folder on a local disk by its absolute path, which the server's user alone may write in.",
)
BAD_CODEC = Check(
    "E013",
    "{}; the consumer refuses every connection.",
    "Write `codec = FernetCodec(keys=[...])` with keys of `Fernet.generate_key()`, and install"
    " channels-secure[encryption].",
)

CHANNELS_NOT_LISTED = Check(
    "W001", "INSTALLED_APPS lacks 'channels'.", "Add it, so that Channels' own checks and commands are found."
)
TOKEN_IN_QUERY = Check(
    "W002",
    "TOKEN_SOURCES has 'query', so tokens stand in URLs, and URLs end up in logs, histories and Referer headers.",
    "Let clients send the token as a subprotocol or in the Authorization header.",
)
CODES_DAPHNE_CANNOT_SEND = Check(
    "W003",
    "CLOSE_CODES: Daphne cannot send {}, and sends the standard code of the reason instead.",
    "Use codes from 3000 to 4999.",
)
SIGNED_COOKIES = Check(
    "W004",
    "SESSION_ENGINE keeps sessions in signed cookies, so that logging out does not end a copied one.",
    "Use an engine that keeps sessions on the server.",
)
PROXY_NOT_DECLARED = Check(
    "W005",
    "{} says that a proxy is in front, but CHANNELS_SECURE does not say which, so that rates and slots per address are"
    " off behind it.",
    "Set TRUSTED_PROXIES to the proxy's addresses or networks, or TRUSTED_PROXY_COUNT where they are not known.",
)
AMBIENT_WITHOUT_ORIGIN = Check(
    "W006",
    "ALLOW_MISSING_ORIGIN is 'always', so that cookies count even where nothing shows which site asked.",
    "Use 'token', which admits clients without an Origin by explicit credentials only.",
)
ANY_TOKEN_TYPE = Check(
    "W007",
    "SIMPLE_JWT['TOKEN_TYPE_CLAIM'] is None, so that a refresh token passes for an access token.",
    "Leave the setting at 'token_type'.",
)
NO_ACCESS_TOKEN_CLASS = Check(
    "W008",
    "SIMPLE_JWT['AUTH_TOKEN_CLASSES'] names no class of access tokens, so that every token is refused.",
    "Add 'rest_framework_simplejwt.tokens.AccessToken'; sliding tokens are not accepted on WebSockets.",
)
OTHER_HEADER = Check(
    "W009",
    "SIMPLE_JWT['AUTH_HEADER_NAME'] is {}, but WebSocket handshakes are searched for Authorization only.",
    "Let clients that cannot send Authorization use a subprotocol.",
)
TICKETS_NOT_ACCEPTED = Check(
    "W010",
    "The URLs give out tickets, but AUTHENTICATORS names no authenticator that accepts them.",
    "Add 'channels_secure.auth.tickets.TicketAuthenticator' to AUTHENTICATORS, or take channels_secure.urls out.",
)
SPOOL_IN_VIEW = Check(
    "W011",
    "AUDIT_SPOOL_DIR {}, and what happens stands there until it is stored.",
    "Name a folder outside of what is served, with the permissions 0700.",
)
UNCLEAR_SENDS = Check(
    "W012",
    "{}.",
    "Give each type in `sends` a tag, as in `class Said(msgspec.Struct, tag='chat.said')`, or a member `type` with a"
    " Literal.",
)

REPORT_MODE = Check(
    "W020",
    "MODE is 'report': wss, origin, rates, connection limits and message size are recorded and not enforced.",
    "Set MODE to 'enforce' once the audit trail shows no `policy.would_deny` that is wrong.",
    deploy=True,
)
MEMORY_STORE = Check(
    "W021",
    "STORE keeps rates and connection limits in each process's memory, so that they hold per process only.",
    "Run one process, or use channels_secure.stores.redis.RedisStore, which processes share.",
    deploy=True,
)
IN_MEMORY_LAYER = Check(
    "W022",
    "{}, so that groups and changes do not reach other processes at once.",
    "Run one process, or use channels_redis.",
    deploy=True,
)
VULNERABLE_VERSION = Check("W023", "{}.", "Upgrade it.", deploy=True)
LONG_ACCESS_TOKENS = Check(
    "W024",
    "SIMPLE_JWT['ACCESS_TOKEN_LIFETIME'] is longer than an hour ({}), and a stolen token works as long.",
    "Use minutes, and let clients refresh.",
    deploy=True,
)
PASSWORD_KEEPS_TOKENS = Check(
    "W025",
    "SIMPLE_JWT['CHECK_REVOKE_TOKEN'] is not True, so that access tokens outlive a change of the password.",
    "Set it to True, or keep ACCESS_TOKEN_LIFETIME so short that it does not matter.",
    deploy=True,
)
PLAIN_TRANSPORT = Check(
    "W026",
    "REQUIRE_WSS is off, so that credentials and messages may cross the network unencrypted.",
    "Set REQUIRE_WSS, SECURE_SSL_REDIRECT or SESSION_COOKIE_SECURE to True.",
    deploy=True,
)
NO_AUDIT_KEY = Check(
    "W027",
    "AUDIT_KEY is not set, so that whoever can change the database can change the audit trail unseen.",
    "Set it to a random text of 32 characters or more, which is not in the database and not in its backups.",
    deploy=True,
)
WEAK_AUDIT_KEY = Check(
    "W028",
    "AUDIT_KEY {}.",
    "Make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`, for this purpose alone.",
    deploy=True,
)

CATALOGUE: tuple[Check, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Check))
