"""Rows 47 and 48: whose address one upgrade request comes from."""
# ruff: noqa: E501 - a table is read line by line

from typing import Any

from channels_secure.policy.decisions import Reason
from tests.conformance.handshakes import case, header
from tests.conformance.table import COMMUNICATOR, LET_IN, Request, http

SPOOFED = (
    b"6.6.6.6", b"6.6.6.6, 7.7.7.7", b"<script>", b"", b"1" * 3000, b"[2001:db8::1]:99", b"1.2.3.4:55", b"::ffff:1.2.3.4", b"0x7f.1", b"127.1",
    b"fe80::1%eth0", b"unknown", b",,,", b"\xff",
)  # fmt: skip
for number, value in enumerate(SPOOFED):
    case(
        f"spoofed-{number}", 47, f"X-Forwarded-For: {value[:30]!r} from a peer that is no trusted proxy",
        lambda w, value=value: Request(headers=header(b"x-forwarded-for", value)), LET_IN, settings={"TRUSTED_PROXIES": []},  # type: ignore[misc]
    )  # fmt: skip
case(
    "spoofed-twice",
    47,
    "two X-Forwarded-For headers from a peer that is no trusted proxy",
    lambda w: Request(headers=header(b"x-forwarded-for", b"6.6.6.6", b"7.7.7.7")),
    LET_IN,
    settings={"TRUSTED_PROXIES": []},
)
BEHIND_PROXY = {"TRUSTED_PROXIES": ["192.0.2.0/24"]}
for number, value in enumerate(
    (
        b"",
        b"<script>",
        b"6.6.6.6, <script>",
        b"unknown",
        b"0x7f.1",
        b"127.1",
        b"01.2.3.4",
        b"1.2.3.4:99999999",
        b"x" * 9000,
        b"\xff",
        b"[::1",
        b"1.2.3.4;5.6.7.8",
    )
):
    case(
        f"forwarded-malformed-{number}",
        48,
        f"X-Forwarded-For: {value[:30]!r} from a trusted proxy",
        lambda w, value=value: Request(headers=header(b"x-forwarded-for", value)),  # type: ignore[misc]
        http(Reason.BAD_REQUEST),
        on=COMMUNICATOR,
        settings=BEHIND_PROXY,
    )


def forwarded(name: str, given: str, address: str, *values: bytes, **settings: Any) -> None:
    """A trusted proxy names the client: the audit trail must too."""
    case(
        f"forwarded-{name}", 48, given, lambda w: Request(headers=header(b"x-forwarded-for", *values)), LET_IN,
        on=COMMUNICATOR, settings=settings or BEHIND_PROXY, address=address,
    )  # fmt: skip


for name, value, address in (
    ("one", b"6.6.6.6", "6.6.6.6"),
    ("spoofed-left", b"9.9.9.9, 6.6.6.6", "6.6.6.6"),
    ("spoofed-trusted-left", b"192.0.2.9, 6.6.6.6", "6.6.6.6"),
    ("nonsense-left", b"<script>, 6.6.6.6", "6.6.6.6"),
    ("empty-left", b",,6.6.6.6", "6.6.6.6"),
    ("hundreds-left", b"9.9.9.9, " * 300 + b"6.6.6.6", "6.6.6.6"),
    ("two-proxies", b"6.6.6.6, 192.0.2.250", "6.6.6.6"),
    ("spoofed-two-proxies", b"9.9.9.9, 6.6.6.6, 192.0.2.250, 192.0.2.251", "6.6.6.6"),
    ("only-proxies", b"192.0.2.249, 192.0.2.250", "192.0.2.249"),
    ("spaces", b" \t 6.6.6.6 \t ", "6.6.6.6"),
    ("port", b"6.6.6.6:55", "6.6.6.6"),
    ("mapped", b"::ffff:6.6.6.6", "6.6.6.6"),
    ("mapped-hex", b"::FFFF:0606:0606", "6.6.6.6"),
    ("mapped-bracketed", b"[::ffff:6.6.6.6]:99", "6.6.6.6"),
    ("mapped-proxy", b"6.6.6.6, ::ffff:192.0.2.250", "6.6.6.6"),
    ("v6", b"2001:DB8:0:0::1", "2001:db8::1"),
    ("v6-port", b"[2001:db8::1]:99", "2001:db8::1"),
    ("v6-quoted", b'"[2001:db8::1]"', "2001:db8::1"),
    ("zone", b"fe80::1%eth0", "fe80::1"),
):
    forwarded(name, f"X-Forwarded-For: {value[:40]!r} from a trusted proxy", address, value)
forwarded("two-headers", "X-Forwarded-For twice, 9.9.9.9 and 6.6.6.6", "6.6.6.6", b"9.9.9.9", b"6.6.6.6")
forwarded("two-headers-proxy", "X-Forwarded-For twice, 6.6.6.6 and a proxy", "6.6.6.6", b"6.6.6.6", b"192.0.2.250")
forwarded(
    "count-1", "X-Forwarded-For: 9.9.9.9, 6.6.6.6 behind one proxy of unknown address", "6.6.6.6",
    b"9.9.9.9, 6.6.6.6", TRUSTED_PROXY_COUNT=1,
)  # fmt: skip
forwarded(
    "count-2", "X-Forwarded-For: 9.9.9.9, 6.6.6.6, 7.7.7.7 behind two proxies of unknown address", "6.6.6.6",
    b"9.9.9.9, 6.6.6.6, 7.7.7.7", TRUSTED_PROXY_COUNT=2,
)  # fmt: skip
for name, given, values, settings in (
    ("two-headers-nonsense-last", "X-Forwarded-For twice, the last one nonsense", (b"6.6.6.6", b"nonsense"), BEHIND_PROXY),
    ("nonsense-before-proxy", "X-Forwarded-For: nonsense, then a proxy", (b"nonsense, 192.0.2.250",), BEHIND_PROXY),
    ("hundreds-of-proxies", "X-Forwarded-For: 300 proxies", (b"192.0.2.250, " * 300 + b"192.0.2.250",), BEHIND_PROXY),
    ("count-too-few", "one X-Forwarded-For entry behind two proxies", (b"6.6.6.6",), {"TRUSTED_PROXY_COUNT": 2}),
    ("count-none", "no X-Forwarded-For behind a proxy of unknown address", (), {"TRUSTED_PROXY_COUNT": 1}),
):  # fmt: skip
    case(
        f"forwarded-{name}", 48, given, lambda w, values=values: Request(headers=header(b"x-forwarded-for", *values)),  # type: ignore[misc]
        http(Reason.BAD_REQUEST), on=COMMUNICATOR, settings=settings,
    )  # fmt: skip
case("forwarded-none", 48, "no X-Forwarded-For from a trusted proxy", lambda w: Request(), LET_IN, on=COMMUNICATOR, settings=BEHIND_PROXY)  # fmt: skip
