"""Origins: what is one, and which may connect."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channels_secure.policy.origins import (
    DEFAULT_PORTS,
    Origin,
    OriginPolicy,
    default_patterns,
    parse_host,
    parse_origin,
)
from tests.policy.timing import best_seconds

EXAMPLE = OriginPolicy.compile(["https://example.com"])
SUBDOMAINS = OriginPolicy.compile(["https://*.example.com"])


def allows(policy: OriginPolicy, text: str, *, host: str | None = None, secure: bool = True) -> bool:
    origin = parse_origin(text)
    return origin is not None and policy.allows(origin, host=host, secure=secure)


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port"),
    [
        ("https://example.com", "https", "example.com", 443),
        ("http://example.com", "http", "example.com", 80),
        ("HTTPS://EXAMPLE.com", "https", "example.com", 443),
        ("https://example.com:443", "https", "example.com", 443),
        ("http://example.com:443", "http", "example.com", 443),
        ("https://example.com:8443", "https", "example.com", 8443),
        ("https://example.com:65535", "https", "example.com", 65535),
        ("https://example.com.", "https", "example.com.", 443),
        ("https://xn--exmple-cua.com", "https", "xn--exmple-cua.com", 443),
        ("https://my_host", "https", "my_host", 443),
        ("http://127.0.0.1:8000", "http", "127.0.0.1", 8000),
        ("http://[::1]:8000", "http", "[::1]", 8000),
        ("https://[2001:DB8:0:0::1]", "https", "[2001:db8::1]", 443),
        ("wss://example.com", "wss", "example.com", None),
        ("chrome-extension://mhjfbmdgcfjbbpae", "chrome-extension", "mhjfbmdgcfjbbpae", None),
        ("capacitor://localhost", "capacitor", "localhost", None),
    ],
)  # fmt: skip
def test_an_origin_is_read(text: str, scheme: str, host: str, port: int | None) -> None:
    assert parse_origin(text) == Origin(scheme=scheme, host=host, port=port)


MALFORMED = [
    # Not a scheme, a host and a port.
    "", " ", "null", "Null", "*", "example.com", "//example.com", "https:example.com", "https:/example.com", "https://",
    "https:///", "://example.com", "https", "file://", "data:,x", "about:blank", "javascript:alert(1)", "not a url",
    # More than that.
    "https://example.com/", "https://example.com/path", "https://example.com?x", "https://example.com#x",
    "https://example.com/?#", "https://example.com@evil.test", "https://evil.test@example.com", "https://@example.com",
    "https://user:pw@example.com", "https://evil.test\\@example.com", "https://example.com\\", "https:\\\\example.com",
    "https://example.com,https://evil.test", "https://evil.test, https://example.com", "https://a.test https://b.test",
    "https://example.com;x", "https://example.com%2eevil.test", "https://exa%6dple.com",
    # Ports.
    "https://example.com:", "https://example.com:0", "https://example.com:65536", "https://example.com:99999",
    "https://example.com:999999", "https://example.com:abc", "https://example.com:-1", "https://example.com:+443",
    "https://example.com:0443", "https://example.com:443:443", "https://example.com:4 43", "https://example.com:٤٤٣",
    # Hosts.
    "https://.", "https://..", "https://.example.com", "https://example..com", "https://example.com..", "https://*",
    "https://*.example.com", "https://exämple.com", "https://exampl\u212a.com", "https://ｅxample.com", "https://a。com",
    "https://[::1", "https://::1]", "https://::1", "https://[]", "https://[::1]x", "https://[::1]:", "https://[::g]",
    "https://[1.2.3.4]", "https://[::1%eth0]", "https://[::1%25eth0]", "https://[[::1]]", "https://[:::]",
    "https://[1:2:3:4:5:6:7:8:9]", "https://[::1.2.3.4.5]",
    # Whitespace, control and other bytes.
    " https://example.com", "https://example.com ", "https://example.com\n", "https://example.com\t", "\thttps://example.com",
    "https://exam\tple.com", "https://exam\nple.com", "https://example.com\x00", "https://example.com\x00.evil.test",
    "https://example.com\x85", "https://example.com\x0b", "https://example.com\x7f", "https://\xff\xfe.com", "https://a\ud800",
    # Schemes.
    "1https://example.com", "-https://example.com", "ht tps://example.com", "httpſ://example.com", "h" * 40 + "://example.com",
    # Length.
    "https://" + "a" * 300, "https://" + "a." * 5000 + "com", "x" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_no_origin_is_none(text: str) -> None:
    assert parse_origin(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "https://" + "a" * 1_000_000, "https://" + "a." * 500_000, "https://" + "-" * 1_000_000, "[" * 1_000_000,
        "https://[" + ":" * 1_000_000, "https://" + "a@" * 500_000, "https://a:" + "1" * 1_000_000, "\x00" * 1_000_000,
        "h" * 1_000_000, "https://" + "a." * 146, "https://[" + ":" * 290, "a+" * 149, "https://" + "a" * 290 + "@",
    ],
    ids=range(13),
)  # fmt: skip
def test_a_hostile_origin_costs_less_than_a_millisecond(text: str) -> None:
    # A new text each time, because answers are remembered.
    hostile = iter([f"{text}{number:02}" for number in range(15)])
    assert best_seconds(lambda: parse_origin(next(hostile))) < 0.001


@given(st.text() | st.text("htps:/.[]@\\-0129aA%?#, \t\x00*", max_size=60).map("https://".__add__))
@example("https://[::ffff:1.2.3.4]")
def test_reading_an_origin_never_raises_and_is_idempotent(text: str) -> None:
    origin = parse_origin(text)
    assert origin is None or parse_origin(str(origin)) == origin


labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=5).map(".".join)
hosts = names | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address.exploded}]")
ports = st.none() | st.integers(1, 65535)


@st.composite
def origin_texts(draw: st.DrawFn) -> str:
    port = draw(ports)
    return f"{draw(st.sampled_from(['http', 'https']))}://{draw(hosts)}{'' if port is None else f':{port}'}"


@given(origin_texts(), st.booleans())
def test_a_well_formed_origin_is_read_as_urllib_reads_it(text: str, upper: bool) -> None:
    text = text.upper() if upper else text
    origin, parts = parse_origin(text), urlsplit(text)
    assert origin is not None
    assert (origin.scheme, origin.port) == (parts.scheme, parts.port or DEFAULT_PORTS[parts.scheme])
    assert urlsplit(str(origin)).scheme == parts.scheme
    if not origin.host.startswith("["):
        assert origin.host == parts.hostname


@given(origin_texts(), origin_texts())
def test_an_exact_policy_allows_the_same_origin_and_no_other(allowed: str, sent: str) -> None:
    policy = OriginPolicy.compile([allowed])
    assert allows(policy, allowed)
    assert allows(policy, sent) == (parse_origin(allowed) == parse_origin(sent))


@given(origin_texts(), names)
def test_a_wildcard_allows_subdomains_and_not_the_apex(text: str, below: str) -> None:
    scheme, _, rest = text.partition("://")
    policy = OriginPolicy.compile([f"{scheme}://*.{rest}"])
    assert allows(policy, f"{scheme}://{below}.{rest}") == (not rest.startswith("["))
    assert not allows(policy, text)
    assert not allows(policy, f"{scheme}://{below}{rest}")


@pytest.mark.parametrize("text", ["https://example.com", "HTTPS://EXAMPLE.com", "https://example.com:443"])
def test_an_allowed_origin_may_connect_in_every_spelling(text: str) -> None:
    assert allows(EXAMPLE, text)


FOREIGN = [
    "http://example.com", "https://example.com:8443", "https://example.com:80", "http://example.com:443",
    "https://example.com.", "chrome-extension://example.com", "wss://example.com", "ws://example.com", "null",
    "https://example.com.evil.test", "https://evilexample.com", "https://evil.test", "https://www.example.com",
    "https://example.co", "https://example.comm", "https://example-com", "//example.com", "file://example.com",
    "ftp://example.com", "https://com", "https://xn--exmple-cua.com", "blob://example.com",
]  # fmt: skip


@pytest.mark.parametrize("text", [*FOREIGN, *MALFORMED])
def test_a_foreign_or_malformed_origin_may_not_connect(text: str) -> None:
    assert not allows(EXAMPLE, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example.com", True),
        ("https://a.b.c.example.com", True),
        ("https://A.EXAMPLE.COM:443", True),
        ("https://example.com", False),
        ("https://evilexample.com", False),
        ("https://a-example.com", False),
        ("https://.example.com", False),
        ("https://a.example.com.evil.test", False),
        ("https://a.example.com.", False),
        ("http://a.example.com", False),
        ("https://a.example.com:8443", False),
        ("http://a.example.com:443", False),
        ("https://a@b.example.com", False),
        ("chrome-extension://a.example.com", False),
    ],
)
def test_a_wildcard_stands_for_subdomains_at_any_depth(text: str, expected: bool) -> None:
    assert allows(SUBDOMAINS, text) is expected


def test_a_port_belongs_to_a_pattern() -> None:
    policy = OriginPolicy.compile(["https://*.example.com:8443", "http://[2001:db8::1]:81", "capacitor://localhost"])
    assert allows(policy, "https://a.example.com:8443")
    assert not allows(policy, "https://a.example.com")
    assert allows(policy, "http://[2001:DB8:0::1]:81")
    assert allows(policy, "capacitor://localhost")
    assert not allows(policy, "http://localhost")


def test_no_pattern_allows_nothing() -> None:
    policy = OriginPolicy.compile([])
    assert not any(allows(policy, text, host="example.com") for text in ["https://example.com", "http://localhost"])


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("*", "every website"),
        ("null", "not an origin"),
        ("", "not an origin"),
        ("example.com", "scheme and host"),
        ("//example.com", "scheme and host"),
        (".example.com", "scheme and host"),
        ("https://exämple.com", "A-label"),
        ("https://*", "only for all subdomains"),
        ("https://*:443", "only for all subdomains"),
        ("https://*.", "only for all subdomains"),
        ("https://a*.example.com", "only for all subdomains"),
        ("https://*.*.com", "only for all subdomains"),
        ("https://example.com:*", "only for all subdomains"),
        ("https://.example.com", "only for all subdomains"),
        ("*://example.com", "not an origin"),
        ("https://example.com/", "nothing after"),
        ("https://example.com/chat", "nothing after"),
        ("https://user@example.com", "not an origin"),
        ("https://example.com:99999", "not an origin"),
        ("https://", "not an origin"),
        (" https://example.com", "not an origin"),
        ("wss://example.com", "of the page"),
        ("WS://example.com", "of the page"),
        ("https://" + "a" * 5000, "not an origin"),
    ],
)
def test_a_pattern_that_is_none_is_refused_in_plain_words(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        OriginPolicy.compile(["https://example.com", pattern])
    assert len(str(refusal.value)) < 500


def test_a_bare_text_is_not_a_list_of_patterns() -> None:
    with pytest.raises(ValueError, match="list"):
        OriginPolicy.compile("https://example.com")


@given(st.text())
def test_compiling_raises_nothing_but_value_error(pattern: str) -> None:
    try:
        policy = OriginPolicy.compile([pattern])
    except ValueError:
        return
    assert policy.exact or policy.parents


@pytest.mark.parametrize(
    ("origin", "host", "secure", "expected"),
    [
        ("https://example.com", "example.com", True, True),
        ("https://example.com", "EXAMPLE.com:443", True, True),
        ("https://example.com:8443", "example.com:8443", True, True),
        ("https://[2001:db8::1]:8443", "[2001:DB8:0::1]:8443", True, True),
        ("http://example.com", "example.com", True, False),
        ("http://example.com", "example.com", False, True),
        # A proxy that nobody declared may have ended TLS.
        ("https://example.com", "example.com", False, True),
        ("http://example.com", "example.com:80", False, True),
        ("http://example.com:8000", "example.com:8000", False, True),
        ("https://example.com", "example.com:80", False, False),
        ("https://example.com:8443", "example.com", True, False),
        ("https://example.com", "example.com:8443", True, False),
        ("https://example.com.", "example.com", True, False),
        ("https://evil.test", "example.com", True, False),
        ("https://www.example.com", "example.com", True, False),
        ("wss://example.com", "example.com", True, False),
        ("chrome-extension://example.com", "example.com", False, False),
        ("https://example.com", None, True, False),
        ("https://example.com", "", True, False),
        ("https://example.com", "example.com, evil.test", True, False),
        ("https://example.com", "user@example.com", True, False),
        ("https://example.com", "example.com/", True, False),
    ],
)
def test_same_origin_means_that_origin_equals_host(origin: str, host: str | None, secure: bool, expected: bool) -> None:
    assert allows(OriginPolicy.compile([], same_origin=True), origin, host=host, secure=secure) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://localhost", True), ("https://localhost:8443", True), ("http://localhost:3000", True),
        ("http://app.localhost:3000", True), ("http://127.0.0.1:8000", True), ("http://127.8.9.10", True),
        ("http://[::1]:8000", True), ("http://[0:0:0:0:0:0:0:1]", True),
        ("http://localhost.evil.test", False), ("http://evillocalhost", False), ("http://127.0.0.1.evil.test", False),
        ("http://127.1", False), ("http://0x7f000001", False), ("http://10.0.0.1", False), ("http://[::2]", False),
        ("http://[::ffff:127.0.0.1]", False), ("http://0.0.0.0", False), ("http://localhost.", False),
        ("capacitor://localhost", False), ("wss://localhost", False), ("http://example.com", False),
    ],
)  # fmt: skip
def test_loopback_means_this_machines_own_names_on_any_port(text: str, expected: bool) -> None:
    assert allows(OriginPolicy.compile([], loopback=True), text, secure=False) is expected


def policy_of(**settings: Any) -> OriginPolicy:
    defaults = {"allowed_hosts": [], "csrf_trusted_origins": [], "require_wss": False, "debug": False}
    return default_patterns(**{**defaults, **settings})


def test_an_exact_host_may_connect_by_https_and_http() -> None:
    policy = policy_of(allowed_hosts=["Example.com", "[::1]"])
    assert allows(policy, "https://example.com")
    assert allows(policy, "http://example.com")
    assert allows(policy, "http://[::1]")
    assert not allows(policy, "https://example.com:8443", host="example.com:8443")
    assert not allows(policy, "https://www.example.com", host="www.example.com")


def test_an_exact_host_may_connect_by_https_only_where_wss_is_required() -> None:
    policy = policy_of(allowed_hosts=["example.com"], require_wss=True)
    assert allows(policy, "https://example.com")
    assert not allows(policy, "http://example.com")


def test_origins_that_csrf_trusts_may_connect() -> None:
    trusted = ["https://app.example.org:8443", "https://*.example.net", "http://old.example.org"]
    policy = policy_of(csrf_trusted_origins=trusted, require_wss=True)
    assert allows(policy, "https://app.example.org:8443")
    assert allows(policy, "https://a.b.example.net")
    assert allows(policy, "http://old.example.org")
    assert not allows(policy, "https://example.net")
    assert not allows(policy, "https://app.example.org")


def test_loopback_may_connect_in_debug_only() -> None:
    assert allows(policy_of(debug=True), "http://localhost:5173")
    assert not allows(policy_of(), "http://localhost:5173")


def test_any_host_may_connect_to_itself_where_all_hosts_are_allowed() -> None:
    policy = policy_of(allowed_hosts=["*"])
    assert allows(policy, "https://whatever.test", host="whatever.test")
    assert allows(policy, "http://whatever.test:8000", host="whatever.test:8000", secure=False)
    assert not allows(policy, "https://evil.test", host="whatever.test")
    assert not allows(policy, "https://whatever.test", host=None)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.com", True),
        ("a.b.example.com", True),
        ("A.Example.com", True),
        ("a.example.com:8443", True),
        ("a.example.com.", True),
        ("evilexample.com", False),
        ("example.com.evil.test", False),
        ("evil.test", False),
    ],
)
def test_a_domain_may_connect_to_itself_where_its_subdomains_are_allowed(host: str, expected: bool) -> None:
    policy = policy_of(allowed_hosts=[".Example.com"])
    assert allows(policy, f"https://{host}", host=host) is expected
    assert not allows(policy, "https://other.example.com", host=host)


@pytest.mark.parametrize(
    "entry", ["*.example.com", "exämple.com", "example.com/path", "", ".", "a b", "https://example.com"]
)
def test_a_host_that_django_matches_with_nothing_allows_nothing(entry: str) -> None:
    policy = policy_of(allowed_hosts=[entry])
    for text in ["https://example.com", "https://a.example.com", "https://path", "https://xn--exmple-cua.com"]:
        assert not allows(policy, text, host=text.removeprefix("https://"))


@pytest.mark.parametrize("entry", ["https://example.com/", "*", "null", "https://", "https://*"])
def test_a_trusted_origin_that_django_matches_with_nothing_allows_nothing(entry: str) -> None:
    assert policy_of(csrf_trusted_origins=[entry]) == OriginPolicy()


def test_equal_settings_give_equal_policies() -> None:
    settings = {"allowed_hosts": ["a.test", "b.test", ".c.test"], "csrf_trusted_origins": ["https://*.d.test"]}
    assert policy_of(**settings) == policy_of(**settings)
    assert hash(policy_of(**settings)) == hash(policy_of(**settings))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.com", ("example.com", None)),
        ("EXAMPLE.com:80", ("example.com", 80)),
        ("[2001:DB8::1]:8000", ("[2001:db8::1]", 8000)),
        ("", None),
        ("example.com:", None),
        ("example.com:99999", None),
        ("exa mple.com", None),
        ("example.com,evil.test", None),
        ("a@example.com", None),
        ("exämple.com", None),
        ("a" * 100_000, None),
    ],
)
def test_a_host_is_read(text: str, expected: tuple[str, int | None] | None) -> None:
    assert parse_host(text) == expected
