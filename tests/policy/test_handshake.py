"""The facts of a handshake: what each server's scope says, and what hostile ones cannot do."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.policy.addresses import Client, Proxies
from channels_secure.policy.handshake import MAX_PATH_LENGTH, MAX_QUERY_BYTES, MAX_QUERY_FIELDS, Handshake
from channels_secure.policy.headers import MAX_CREDENTIAL_LENGTH, MAX_HEADER_BYTES, MAX_HEADERS
from channels_secure.policy.origins import Origin
from tests.policy.timing import best_seconds

PEER = "203.0.113.7"
PROXY = "10.0.0.1"
UNSET = Proxies()
BEHIND_A_PROXY = Proxies.from_settings(["10.0.0.0/8"], "X-Forwarded-For", None)
NO_PROXY = Proxies.from_settings([], "X-Forwarded-For", None)
SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
EXAMPLE = Origin(scheme="https", host="example.com", port=443)


def read(
    *headers: tuple[str, str],
    proxies: Proxies = UNSET,
    secure_header: tuple[str, str] | None = None,
    assume_wss: bool = False,
    use_forwarded_host: bool = False,
    **scope: Any,
) -> Handshake:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return Handshake.from_scope(
        {"type": "websocket", "path": "/ws/", "query_string": b"", "headers": raw, "client": (PEER, 4711), **scope},
        proxies=proxies,
        secure_header=secure_header,
        assume_wss=assume_wss,
        use_forwarded_host=use_forwarded_host,
    )


BROWSER = [
    ("host", "example.com"),
    ("connection", "Upgrade"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
    ("upgrade", "websocket"),
    ("origin", "https://example.com"),
    ("sec-websocket-version", "13"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("cookie", "sessionid=abc; csrftoken=def"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


def test_the_handshake_of_a_browser_is_read() -> None:
    handshake = read(*BROWSER, query_string=b"room=a&room=b&empty=", subprotocols=["channels-secure.v1"], scheme="wss")
    assert handshake.path == handshake.safe_path == "/ws/"
    assert (handshake.address, handshake.peer) == (ip_address(PEER), ip_address(PEER))
    assert handshake.client == Client(peer=ip_address(PEER), address=ip_address(PEER))
    assert (handshake.origin, handshake.origin_text, handshake.origin_missing) == (
        EXAMPLE,
        "https://example.com",
        False,
    )
    assert (handshake.host, handshake.secure) == ("example.com", True)
    assert handshake.user_agent == "Mozilla/5.0 (X11; Linux x86_64)"
    assert handshake.cookies == {"sessionid": "abc", "csrftoken": "def"}
    assert handshake.query_values("room") == ("a", "b")
    assert (handshake.query_values("empty"), handshake.query_values("none")) == (("",), ())
    assert handshake.subprotocols == ("channels-secure.v1",)
    assert (handshake.authorization, handshake.malformed) == (None, None)


def test_a_scope_with_a_path_only_is_read() -> None:
    handshake = Handshake.from_scope({"path": "/ws/"}, proxies=UNSET)
    assert (handshake.origin_missing, handshake.host, handshake.secure, handshake.user_agent) == (True, None, False, "")
    assert (handshake.client, handshake.malformed) == (Client(), None)


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ([PEER, 4711], PEER),
        ((PEER, 4711), PEER),
        ((PEER, "4711"), PEER),
        (["::ffff:203.0.113.7", 0], PEER),
        (["fe80::1%eth0", 1], "fe80::1"),
        (None, None),
        (["<script>alert(1)</script>", 0], None),
        (["", 0], None),
        ([], None),
        ((None, None), None),
        ((b"203.0.113.7", 1), None),
        (5, None),
        ("203.0.113.7", None),
        ({"host": PEER}, None),
    ],
)
def test_the_client_of_every_server_is_read(client: Any, expected: str | None) -> None:
    handshake = read(client=client)
    assert handshake.peer == handshake.address == (None if expected is None else ip_address(expected))
    assert handshake.malformed is None


@pytest.mark.parametrize("client", [["<script>", 0], ["", 0], [], (None, None), 5, "unix", (b"", 0)])
def test_only_a_missing_client_is_a_unix_socket(client: Any) -> None:
    unix = Proxies.from_settings(["unix"], "X-Forwarded-For", None)
    forged = ("x-forwarded-for", "1.2.3.4")
    assert read(forged, client=None, proxies=unix).address == ip_address("1.2.3.4")
    assert read(forged, client=client, proxies=unix).client == Client()


def test_a_peer_that_has_reset_already_is_no_unix_socket() -> None:
    """uvicorn then knows no client any more, and without an address no guard could count it."""
    unix = Proxies.from_settings(["unix"], "X-Forwarded-For", None)
    forged = ("x-forwarded-for", "1.2.3.4")
    assert read(forged, client=None, server=("127.0.0.1", 8000), proxies=unix).malformed == "no client address"
    for server in (("/run/app.sock", None), ["unix:/run/app.sock"], None):
        assert read(forged, client=None, server=server, proxies=unix).malformed is None


@pytest.mark.parametrize("value", ["6.6.6.6", "<script>", "", "1," * 1500, "[2001:db8::1]:99", "0x7f.1"])
def test_an_untrusted_peer_cannot_name_its_address(value: str) -> None:
    handshake = read(("x-forwarded-for", value), ("x-forwarded-for", value), proxies=BEHIND_A_PROXY)
    assert (handshake.address, handshake.malformed) == (ip_address(PEER), None)


def test_a_trusted_proxy_names_the_address() -> None:
    handshake = read(("x-forwarded-for", "6.6.6.6, 1.2.3.4"), client=(PROXY, 0), proxies=BEHIND_A_PROXY)
    assert (handshake.address, handshake.peer) == (ip_address("1.2.3.4"), ip_address(PROXY))


def test_the_proxies_header_can_have_another_name() -> None:
    proxies = Proxies.from_settings(["10.0.0.0/8"], "CF-Connecting-IP", None)
    headers = [("x-forwarded-for", "6.6.6.6"), ("cf-connecting-ip", "1.2.3.4")]
    assert read(*headers, client=(PROXY, 0), proxies=proxies).address == ip_address("1.2.3.4")
    assert read(("cf_connecting_ip", "1.2.3.4"), client=(PROXY, 0), proxies=proxies).address == ip_address(PROXY)


def test_what_a_trusted_proxy_sends_must_be_readable() -> None:
    handshake = read(("x-forwarded-for", "<script>"), client=(PROXY, 0), proxies=BEHIND_A_PROXY)
    assert (handshake.address, handshake.peer) == (None, ip_address(PROXY))
    assert handshake.malformed == "no address from a trusted proxy"


def test_nobody_knows_the_client_when_the_headers_of_a_proxy_cannot_be_read() -> None:
    headers = [("x-forwarded-for", "1.2.3.4"), ("x-padding", "x" * MAX_HEADER_BYTES)]
    handshake = read(*headers, client=(PROXY, 0), proxies=BEHIND_A_PROXY)
    assert (handshake.address, handshake.malformed) == (None, "headers too long")
    assert read(*headers).address == ip_address(PEER)


def test_an_undeclared_proxy_is_noticed() -> None:
    handshake = read(("x-forwarded-for", "1.2.3.4"), client=("127.0.0.1", 5))
    assert handshake.client.undeclared_proxy
    assert handshake.address == ip_address("127.0.0.1")


@pytest.mark.parametrize("headers", [
    [("origin", "https://example.com"), ("origin", "https://evil.test")],
    [("origin", "https://evil.test"), ("origin", "https://example.com")],
    [("origin", "https://example.com"), ("origin", "https://example.com")],
    [("origin", "https://example.com,https://evil.test")],
    [("origin", "null")],
    [("origin", "")],
    [("origin", "https://example.com\t")],
    [("origin", "https://exam\x00ple.com")],
    [("origin", "https://ex\xe4mple.com")],
    [("origin", "https://example.com@evil.test")],
    [("origin", "https://" + "a" * 1_000_000)],
    [("origin", "https://a.test")] * 100,
])  # fmt: skip
def test_an_origin_that_is_none_is_shown_and_is_not_a_bad_request(headers: list[tuple[str, str]]) -> None:
    handshake = read(*headers)
    assert (handshake.origin, handshake.origin_missing, handshake.malformed) == (None, False, None)
    assert handshake.origin_text is not None
    assert handshake.origin_text.isprintable()
    assert handshake.origin_text.isascii()
    assert len(handshake.origin_text) <= 256


def test_both_of_two_origins_are_shown() -> None:
    handshake = read(("origin", "https://a.test"), ("origin", "https://b.test"))
    assert handshake.origin_text == "https://a.test,https://b.test"


@pytest.mark.parametrize("name", ["Origin", "ORIGIN", "origin ", "_origin", "x-origin", "or\x00igin"])
def test_header_names_are_matched_exactly(name: str) -> None:
    assert read((name, "https://example.com")).origin_missing


@pytest.mark.parametrize("name", ["x_forwarded_for", "X_Forwarded_For", "x_real_ip", "x_forwarded_proto", "user_agent"])
def test_an_underscore_twin_is_believed_by_nobody(name: str) -> None:
    handshake = read(*BROWSER, (name.lower(), "1.2.3.4"), client=(PROXY, 0), proxies=BEHIND_A_PROXY)
    assert handshake.malformed is None
    assert handshake.address == ip_address(PROXY)


@pytest.mark.parametrize(
    ("headers", "scope", "words"),
    [
        ([("authorization", "Bearer a"), ("authorization", "Bearer a")], {}, "more than one authorization"),
        ([("authorization", "Bearer a\x00")], {}, "control bytes in authorization"),
        ([("host", "a.test"), ("host", "a.test")], {}, "more than one host"),
        ([("host", "a.test,b.test")], {}, "host that is no host"),
        ([("host", "a b")], {}, "host that is no host"),
        ([("host", "a.test/")], {}, "host that is no host"),
        ([("host", "user@a.test")], {}, "host that is no host"),
        ([("host", "exämple.com")], {}, "host that is no host"),
        ([("host", "a" * 1000)], {}, "host that is no host"),
        ([("host", "a.test\x0b")], {}, "control bytes in host"),
        ([("user-agent", "a\x1b[31m")], {}, "control bytes in user-agent"),
        ([("cookie", "a=1\x0borigin: https://example.com")], {}, "control bytes in cookie"),
        ([("cookie", "a=" + "x" * 40_000)], {}, "too many cookies"),
        ([("cookie", ";" * 300)], {}, "too many cookies"),
        ([("a", "b")] * (MAX_HEADERS + 1), {}, "too many headers"),
        ([("a", "b" * 200_000)], {}, "headers too long"),
        ([], {"query_string": b"x" * (MAX_QUERY_BYTES + 1)}, "query too long or unreadable"),
        ([], {"query_string": "x" * (MAX_QUERY_BYTES + 1)}, "query too long or unreadable"),
        ([], {"query_string": 5}, "query too long or unreadable"),
        ([], {"query_string": b"&" * MAX_QUERY_FIELDS}, "too many query parameters"),
        ([], {"subprotocols": [str(number) for number in range(1000)]}, "subprotocols that are no list, or too many"),
        ([], {"subprotocols": ["v1", "v1"]}, "subprotocols that are not distinct tokens"),
        ([], {"subprotocols": ["é"]}, "subprotocols that are not distinct tokens"),
        ([], {"path": "/" * (MAX_PATH_LENGTH + 1)}, "path missing or too long"),
        ([], {"path": None}, "path missing or too long"),
        ([], {"path": b"/ws/"}, "path missing or too long"),
        ([], {"headers": None}, "headers that are not pairs of bytes"),
    ],
)
def test_a_bad_request_says_what_is_wrong(headers: list[tuple[str, str]], scope: dict[str, Any], words: str) -> None:
    assert read(*headers, **scope).malformed == words


@pytest.mark.parametrize(
    ("headers", "scope"),
    [
        ([("host", "")], {}),
        ([("host", "[::1]:8000")], {}),
        ([("cookie", "a=1"), ("cookie", "b=2")], {}),
        ([("cookie", "name=größe")], {}),
        ([("my_header", "1"), ("my_header", "2")], {}),
        ([("user-agent", "größe"), ("user-agent", "b")], {}),
        ([("authorization", "Bearer " + "a" * 1_000_000)], {}),
        ([], {"query_string": "room=a"}),
        ([], {"query_string": b"%ff%00&\xff=\xfe"}),
        ([], {"subprotocols": ()}),
        ([], {"subprotocols": None}),
        ([], {"path": "/ws/\x00\n\ud800/"}),
        ([], {"scheme": None}),
    ],
)
def test_the_unusual_is_not_a_bad_request(headers: list[tuple[str, str]], scope: dict[str, Any]) -> None:
    assert read(*headers, **scope).malformed is None


def test_the_cookies_of_all_lines_count_and_the_last_wins() -> None:
    assert read(("cookie", "a=1; b=1"), ("cookie", "b=2")).cookies == {"a": "1", "b": "2"}


def test_a_long_credential_is_cut_but_stays_too_long_for_a_token() -> None:
    handshake = read(("authorization", "Bearer " + "a" * 1_000_000), subprotocols=["bearer." + "a" * 1_000_000])
    assert handshake.authorization is not None
    assert len(handshake.authorization) == len(handshake.subprotocols[0]) == MAX_CREDENTIAL_LENGTH > 8192 + 100


@pytest.mark.parametrize(
    ("options", "headers", "scope", "expected"),
    [
        ({}, [], {}, False),
        ({}, [], {"scheme": "ws"}, False),
        ({}, [], {"scheme": "wss"}, True),
        ({}, [], {"scheme": ["wss"]}, False),
        ({"assume_wss": True}, [], {}, True),
        # X-Forwarded-Proto counts from a trusted proxy only, and its last word.
        ({}, [("x-forwarded-proto", "https")], {}, False),
        ({"proxies": NO_PROXY}, [("x-forwarded-proto", "https")], {}, False),
        ({"proxies": BEHIND_A_PROXY}, [("x-forwarded-proto", "https")], {}, False),
        ({"proxies": BEHIND_A_PROXY}, [("x-forwarded-proto", "https")], {"client": (PROXY, 1)}, True),
        ({"proxies": BEHIND_A_PROXY}, [("x-forwarded-proto", "WSS")], {"client": (PROXY, 1)}, True),
        ({"proxies": BEHIND_A_PROXY}, [("x-forwarded-proto", "http")], {"client": (PROXY, 1)}, False),
        ({"proxies": BEHIND_A_PROXY}, [("x-forwarded-proto", "http, https")], {"client": (PROXY, 1)}, True),
        ({"proxies": BEHIND_A_PROXY}, [("x-forwarded-proto", "https, http")], {"client": (PROXY, 1)}, False),
        (
            {"proxies": BEHIND_A_PROXY},
            [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")],
            {"client": (PROXY, 1)},
            False,
        ),
        ({"proxies": BEHIND_A_PROXY}, [("x-forwarded-proto", "")], {"client": (PROXY, 1)}, False),
        ({"proxies": BEHIND_A_PROXY}, [("x_forwarded_proto", "https")], {"client": (PROXY, 1)}, False),
        # SECURE_PROXY_SSL_HEADER is the project's promise about every peer, until proxies are declared.
        ({"secure_header": SSL_HEADER}, [], {}, False),
        ({"secure_header": SSL_HEADER}, [("x-forwarded-proto", "https")], {}, True),
        ({"secure_header": SSL_HEADER}, [("x-forwarded-proto", "https, http")], {}, True),
        ({"secure_header": SSL_HEADER}, [("x-forwarded-proto", "http")], {}, False),
        ({"secure_header": SSL_HEADER}, [("x_forwarded_proto", "https")], {}, False),
        ({"secure_header": ("HTTP_X_SCHEME", "on")}, [("x-scheme", "on")], {}, True),
        ({"secure_header": ("HTTP_X_SCHEME", "on")}, [("x-scheme", "off"), ("x-forwarded-proto", "https")], {}, False),
        ({"secure_header": SSL_HEADER, "proxies": BEHIND_A_PROXY}, [("x-forwarded-proto", "https")], {}, False),
        ({"secure_header": SSL_HEADER, "proxies": NO_PROXY}, [("x-forwarded-proto", "https")], {}, False),
        (
            {"secure_header": ("HTTP_X_SCHEME", "on"), "proxies": BEHIND_A_PROXY},
            [("x-scheme", "on")],
            {"client": (PROXY, 1)},
            True,
        ),
    ],
)
def test_a_connection_is_secure_when_somebody_who_knows_says_so(
    options: dict[str, Any], headers: list[tuple[str, str]], scope: dict[str, Any], expected: bool
) -> None:
    assert read(*headers, **options, **scope).secure is expected


@pytest.mark.parametrize(
    ("use_forwarded_host", "proxies", "peer", "expected"),
    [
        (False, UNSET, PEER, "inner.test"),
        (True, UNSET, PEER, "outer.test"),
        (True, BEHIND_A_PROXY, PEER, "inner.test"),
        (True, BEHIND_A_PROXY, PROXY, "outer.test"),
        (False, BEHIND_A_PROXY, PROXY, "inner.test"),
        (True, NO_PROXY, PEER, "inner.test"),
    ],
)
def test_a_forwarded_host_counts_where_the_project_says_so(
    use_forwarded_host: bool, proxies: Proxies, peer: str, expected: str
) -> None:
    headers = [("host", "inner.test"), ("x-forwarded-host", "outer.test"), ("x-forwarded-for", "1.2.3.4")]
    handshake = read(*headers, proxies=proxies, use_forwarded_host=use_forwarded_host, client=(peer, 1))
    assert (handshake.host, handshake.malformed) == (expected, None)


def test_a_forwarded_host_does_not_hide_a_repeated_host() -> None:
    headers = [("host", "a.test"), ("host", "b.test"), ("x-forwarded-host", "outer.test")]
    assert read(*headers, use_forwarded_host=True).malformed == "more than one host"


def test_what_is_shown_is_safe() -> None:
    handshake = read(("user-agent", "größe " * 100), path="/ws/größe\x00\r\n" + "x" * 300)
    assert handshake.user_agent.startswith("gr\\xf6\\xdfe ")
    assert handshake.safe_path.startswith("/ws/größe\\x00\\x0d\\x0axxx")
    assert len(handshake.user_agent) == len(handshake.safe_path) == 256


def test_a_repr_shows_no_secret() -> None:
    handshake = read(
        ("cookie", "sessionid=SECRET"),
        ("authorization", "Bearer SECRET"),
        query_string=b"token=SECRET",
        subprotocols=["channels-secure.bearer.SECRET"],
    )
    assert handshake.malformed is None
    assert "SECRET" not in repr(handshake)
    assert "SECRET" not in f"{handshake}"
    assert PEER in repr(handshake)


hostile_bytes = st.binary(max_size=40) | st.sampled_from([
    b"origin", b"host", b"cookie", b"authorization", b"user-agent", b"x-forwarded-for", b"x-forwarded-proto",
    b"x-forwarded-host", b"x_forwarded_for", b"https://example.com", b"null", b"https", b"a=1; b", b"Bearer x",
    b"1.2.3.4",
])  # fmt: skip
junk = st.none() | st.integers() | st.text(max_size=10) | st.binary(max_size=10) | st.lists(st.integers(), max_size=3)
header = st.tuples(hostile_bytes, hostile_bytes)
scopes = st.fixed_dictionaries(
    {},
    optional={
        "path": st.text() | junk,
        "query_string": st.binary() | st.text() | junk,
        "headers": st.lists(header, max_size=12) | st.lists(header | junk, max_size=4) | junk,
        "client": st.none() | st.tuples(st.text() | st.sampled_from([PEER, PROXY]), st.integers() | st.text()) | junk,
        "subprotocols": st.lists(st.text(), max_size=5) | st.lists(junk, max_size=5) | junk,
        "scheme": st.sampled_from(["ws", "wss"]) | junk,
    },
)


@given(
    scopes,
    st.sampled_from([UNSET, BEHIND_A_PROXY, NO_PROXY, Proxies.from_settings(["unix"], "X-A", 2)]),
    st.sampled_from([None, SSL_HEADER]),
    st.booleans(),
)
def test_no_scope_makes_reading_raise(
    scope: dict[str, Any], proxies: Proxies, secure_header: tuple[str, str] | None, use_forwarded_host: bool
) -> None:
    handshake = Handshake.from_scope(
        scope, proxies=proxies, secure_header=secure_header, use_forwarded_host=use_forwarded_host
    )
    shown = [handshake.safe_path, handshake.user_agent, handshake.origin_text or "", handshake.malformed or ""]
    assert all(text.isprintable() and len(text) <= 256 for text in shown)
    assert handshake.origin is None or not handshake.origin_missing
    assert handshake.client.trusted_proxy or handshake.address == handshake.peer
    assert repr(handshake)


HOSTILE = {
    "origin of 1 MB": [(b"origin", b"https://" + b"a." * 500_000)],
    "origins": [(b"origin", b"https://a.test")] * MAX_HEADERS,
    "token of 1 MB": [(b"authorization", b"Bearer " + b"a" * 1_000_000)],
    "header of 200 kB": [(b"x-anything", b"a" * 200_000)],
    "200 kB of headers": [(f"x-{number}".encode(), b"a" * 2000) for number in range(100)],
    "10,000 headers": [(f"x-{number}".encode(), b"a") for number in range(10_000)],
    "all names but one distinct": [
        *((f"x-{number}".encode(), b"a") for number in range(MAX_HEADERS - 1)),
        (b"x-0", b"b"),
    ],
    "forwarded of 60 kB": [(b"x-forwarded-for", b"1.1.1.1," * 7500)],
    "cookies of 60 kB": [(b"cookie", b";" * 60_000)],
    "host of 60 kB": [(b"host", b"a." * 30_000)],
    "agent of 60 kB": [(b"user-agent", b"\xff" * 60_000)],
}


@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("peer", [PEER, PROXY])
def test_a_hostile_handshake_costs_less_than_a_millisecond(headers: list[tuple[bytes, bytes]], peer: str) -> None:
    scope = {"path": "/ws/", "headers": headers, "client": (peer, 1)}
    assert best_seconds(lambda: Handshake.from_scope(scope, proxies=BEHIND_A_PROXY)) < 0.001


def test_other_headers_can_be_asked_for_by_name() -> None:
    handshake = read(("x-api-key", "secret"), ("twice", "a"), ("twice", "b"), ("bad", "a\x00"))
    assert [handshake.header(name) for name in ("X-API-Key", "twice", "bad", "none")] == ["secret", None, None, None]
    assert "secret" not in repr(handshake)
