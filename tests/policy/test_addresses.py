"""Addresses: what is one, which networks contain it, and who stands behind which proxy."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_secure.policy.addresses import (
    MAX_FORWARDED_ENTRIES,
    Client,
    IPAddress,
    IPNetwork,
    Proxies,
    bucket,
    is_never_blocked_automatically,
    network_for,
    parse_address,
    refuse_dangerous,
    resolve_client,
)
from channels_secure.policy.networks import NetworkMap, NetworkSet
from tests.policy.timing import best_seconds

PROXY = "10.0.0.1"
BEHIND_A_PROXY = Proxies.from_settings(["10.0.0.0/8", "2001:db8:ffff::/48"], "X-Forwarded-For", None)
UNDECLARED = Proxies.from_settings(None, "X-Forwarded-For", None)
NO_PROXY = Proxies.from_settings([], "X-Forwarded-For", None)
UNIX = Proxies.from_settings(["unix"], "X-Forwarded-For", None)

addresses = st.ip_addresses()
addresses_nearby = st.builds(
    lambda base, offset: ip_address(base) + offset,
    st.sampled_from(["10.0.0.0", "192.0.2.0", "2001:db8::", "2001:db8:0:1::"]),
    st.integers(0, 300),
)


@st.composite
def networks(draw: st.DrawFn) -> IPNetwork:
    address = draw(addresses_nearby | addresses)
    return ip_network((address.packed, draw(st.integers(0, address.max_prefixlen))), strict=False)


def ip(text: str) -> IPAddress:
    return ip_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::ffff:102:304", "1.2.3.4"),
        ("0:0:0:0:0:ffff:1.2.3.4", "1.2.3.4"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:1.2.3.4%eth0", "1.2.3.4"),
    ],
)
def test_an_address_is_read(text: str, expected: str) -> None:
    assert parse_address(text) == ip_address(expected)


NO_ADDRESSES = [
    "", " ", "unknown", "_hidden", "<script>alert(1)</script>", "0x7f.1", "127.1", "2130706433", "0177.0.0.1",
    "01.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n", "1.2.3.4\x00", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.-4",
    "1.2.3.4/32",
    "1.2.3.4:55", "[2001:db8::1]", "[2001:db8::1]:99", "2001:db8::1::2", "1:2:3:4:5:6:7:8:9", "12345::",
    "::1%", "::1%a b", "::1%<script>", "1.2.3.4%eth0", "%eth0", "１.２.３.４", "1.2.3.٤",
    "::ffff:1.2.3.4.5", "\ud800", "1.2.3.4\udc80",
    "for=1.2.3.4", "1.2.3.4, 5.6.7.8", ":" * 64, "1" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


@given(st.text() | st.text("0123456789abcdef.:%[]"))
def test_reading_an_address_never_raises_and_is_idempotent(text: str) -> None:
    address = parse_address(text)
    assert address is None or parse_address(str(address)) == address


@given(addresses)
def test_every_address_is_read_as_it_is_written(address: IPAddress) -> None:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    assert parse_address(str(address)) == (mapped or address)


@given(st.lists(st.tuples(networks(), st.integers()), max_size=12), addresses_nearby)
def test_a_map_finds_the_values_of_every_network_with_the_address_and_the_longest_first(
    entries: list[tuple[IPNetwork, int]], address: IPAddress
) -> None:
    last = dict(entries)
    containing = sorted((n for n in last if address in n), key=lambda n: -n.prefixlen)
    assert list(NetworkMap(entries).matches(address)) == [last[network] for network in containing]


@given(st.lists(networks(), max_size=12), addresses_nearby, networks())
def test_a_set_agrees_with_a_walk_over_its_networks(
    members: list[IPNetwork], address: IPAddress, other: IPNetwork
) -> None:
    found = NetworkSet(members)
    assert found.contains(address) == any(address in network for network in members)
    assert found.overlaps(other) == any(other.overlaps(network) for network in members)
    assert bool(found) == bool(members)


def test_equal_sets_are_equal() -> None:
    first, second = IPv4Network("10.0.0.0/8"), IPv6Network("2001:db8::/32")
    assert NetworkSet([first, second]) == NetworkSet([second, first, first])
    assert hash(NetworkSet([first, second])) == hash(NetworkSet([second, first]))
    assert NetworkSet([first]) != NetworkSet([second])


def test_the_number_of_networks_does_not_slow_a_look_up() -> None:
    few = NetworkSet([ip_network((number << 8, 24)) for number in range(10)])
    many = NetworkSet([ip_network((number << 8, 24)) for number in range(50_000)])
    address = ip("203.0.113.1")
    assert best_seconds(lambda: [many.contains(address) for _ in range(1000)]) < 5 * best_seconds(
        lambda: [few.contains(address) for _ in range(1000)]
    )


@pytest.mark.parametrize(
    ("text", "prefix", "expected"),
    [
        ("192.0.2.1", 64, "192.0.2.1"),
        ("192.0.2.1", 1, "192.0.2.1"),
        ("2001:db8::1", 64, "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", 64, "2001:db8::/64"),
        ("2001:db8:0:1::1", 64, "2001:db8:0:1::/64"),
        ("2001:db8::1", 128, "2001:db8::1/128"),
        ("2001:db8:7700::1", 40, "2001:db8:7700::/40"),
    ],
)
def test_a_client_is_counted_under_its_bucket(text: str, prefix: int, expected: str) -> None:
    assert bucket(ip(text), prefix) == expected


def test_ten_thousand_addresses_of_one_64_are_one_client() -> None:
    base = int(IPv6Address("2001:db8::"))
    assert {bucket(IPv6Address(base + number * 7919), 64) for number in range(10_000)} == {"2001:db8::/64"}


@given(st.ip_addresses(v=6), st.integers(1, 128))
def test_a_bucket_is_the_network_that_a_block_of_the_address_covers(address: IPv6Address, prefix: int) -> None:
    assert bucket(address, prefix) == str(ip_network((address.packed, prefix), strict=False))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        (" 192.0.2.1\n", "192.0.2.1/32"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::1/128", "2001:db8::1/128"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::1", "::/64"),
        ("::1/24", "::/24"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:192.0.2.77/120", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_operator_means_a_network(text: str, expected: str) -> None:
    assert network_for(text, 64) == ip_network(expected)


@pytest.mark.parametrize("text", [
    *NO_ADDRESSES[:7], "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "192.0.2.0/a", "192.0.2.0/²",
    "192.0.2.0/255.255.255.0", "192.0.2.0/24/24", "2001:db8::/129", "::ffff:192.0.2.0/64", "::ffff:192.0.2.0/129",
    "/24", "*", "x" * 100_000,
])  # fmt: skip
def test_nonsense_is_no_network_and_says_so_in_short(text: str) -> None:
    with pytest.raises(ValueError, match="is not") as refusal:
        network_for(text, 64)
    assert len(str(refusal.value)) < 200


@given(st.text())
def test_reading_a_network_raises_nothing_but_value_error(text: str) -> None:
    try:
        network = network_for(text, 64)
    except ValueError:
        return
    assert network_for(str(network), 64) == network


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.0.0.0/0", "too wide"),
        ("::/0", "too wide"),
        ("192.0.0.0/7", "too wide"),
        ("2000::/15", "too wide"),
        ("::ffff:0:0/96", "too wide"),
        ("127.0.0.1", "loopback"),
        ("127.200.0.0/16", "loopback"),
        ("::1", "loopback"),
        ("::/16", "loopback"),
        ("10.0.0.1", "trusted proxy"),
        ("10.0.0.0/9", "trusted proxy"),
        ("10.0.0.0/8", "trusted proxy"),
        ("2001:db8::/32", "trusted proxy"),
        ("2001:db8:ffff:1::/64", "trusted proxy"),
    ],
)
def test_a_dangerous_block_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        refuse_dangerous(network_for(text, 64), BEHIND_A_PROXY.networks)


@pytest.mark.parametrize("text", ["11.0.0.0/8", "192.0.2.1", "2001::/16", "2001:db8::1", "192.168.0.0/16"])
def test_an_ordinary_block_is_not_refused(text: str) -> None:
    network = network_for(text, 64)
    trusted = NetworkSet([IPv4Network("10.0.0.0/8")])
    refuse_dangerous(network, trusted)
    assert not trusted.overlaps(network)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", True), ("::1", True), ("10.1.2.3", True), ("172.31.255.255", True), ("192.168.1.1", True),
        ("169.254.1.1", True), ("fe80::1", True), ("fd00::1", True), ("100.64.0.1", True), ("198.51.100.7", True),
        ("172.32.0.1", False), ("203.0.113.1", False), ("192.0.2.1", False), ("2001:db8::1", False), ("8.8.8.8", False),
    ],
)  # fmt: skip
def test_only_addresses_of_many_are_never_blocked_automatically(text: str, expected: bool) -> None:
    trusted = NetworkSet([IPv4Network("198.51.100.0/24")])
    assert is_never_blocked_automatically(ip(text), trusted) is expected


SPOOFED = ["6.6.6.6", "6.6.6.6, 7.7.7.7", "<script>", "", "1.1.1.1," * 400, "[2001:db8::1]:99", "1.2.3.4:55",
           "::ffff:1.2.3.4", "0x7f.1", "127.1", "fe80::1%eth0", "unknown", "\xff\x00"]  # fmt: skip


@pytest.mark.parametrize("value", SPOOFED)
@pytest.mark.parametrize("proxies", [BEHIND_A_PROXY, NO_PROXY, UNDECLARED, UNIX], ids=["set", "none", "unset", "unix"])
@pytest.mark.parametrize("twice", [False, True])
def test_the_header_of_an_untrusted_peer_is_ignored(value: str, proxies: Proxies, twice: bool) -> None:
    forwarded = [value.encode("latin-1")] * (2 if twice else 1)
    peer = ip("203.0.113.7")
    assert resolve_client("203.0.113.7", forwarded, proxies) == Client(peer=peer, address=peer)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4, 10.9.9.9"], "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4", "10.9.9.9", "10.8.8.8"], "1.2.3.4"),
        (["<script>, 1.2.3.4"], "1.2.3.4"),
        ([",,,1.2.3.4"], "1.2.3.4"),
        (["1.2.3.4:55"], "1.2.3.4"),
        (['"1.2.3.4:55"'], "1.2.3.4"),
        (["2001:db8::1"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["[2001:db8::1]:99"], "2001:db8::1"),
        (['"[2001:db8::1]:99"'], "2001:db8::1"),
        (["[fe80::1%eth0]:99"], "fe80::1"),
        (["fe80::1%eth0"], "fe80::1"),
        (["::ffff:1.2.3.4"], "1.2.3.4"),
        (["[::ffff:1.2.3.4]:55"], "1.2.3.4"),
        (["1.2.3.4, ::ffff:10.9.9.9"], "1.2.3.4"),
        (["1.2.3.4, 2001:db8:ffff::9"], "1.2.3.4"),
        (["\t1.2.3.4\t"], "1.2.3.4"),
        (["10.7.7.7, 10.8.8.8"], "10.7.7.7"),
        (["1.1.1.1," * 400 + "1.2.3.4"], "1.2.3.4"),
        (["1.2.3.4" + ",10.1.1.1" * (MAX_FORWARDED_ENTRIES - 1)], "1.2.3.4"),
    ],
)
def test_a_trusted_proxy_names_the_rightmost_untrusted_entry(values: list[str], expected: str) -> None:
    client = resolve_client(PROXY, [value.encode() for value in values], BEHIND_A_PROXY)
    assert client == Client(peer=ip(PROXY), address=ip(expected), trusted_proxy=True)


@pytest.mark.parametrize("value", [
    "", " ", "<script>", "unknown", "_hidden", "0x7f.1", "127.1", "1.2.3.4,", "1.2.3.4, ,10.9.9.9", "1.2.3.4;x",
    "for=1.2.3.4", "[1.2.3.4]", "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]99", "[]", "[:]:1", "1.2.3.4:",
    "1.2.3.4:a", "1.2.3.4:999999", '"', '"1.2.3.4', '""', "1.2.3.4 5.6.7.8", "1.2.3.4\x00",
    "１.2.3.4", "1.2.3.4," * 2000 + "1.2.3.4",
    "1.2.3.4" + ",10.1.1.1" * MAX_FORWARDED_ENTRIES,
])  # fmt: skip
def test_what_a_trusted_proxy_sends_must_be_readable(value: str) -> None:
    client = resolve_client(PROXY, [value.encode()], BEHIND_A_PROXY)
    assert client == Client(peer=ip(PROXY), address=None, trusted_proxy=True, malformed=True)


def test_a_trusted_proxy_that_sends_no_header_is_the_client() -> None:
    assert resolve_client(PROXY, [], BEHIND_A_PROXY) == Client(peer=ip(PROXY), address=ip(PROXY), trusted_proxy=True)


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "::1", "10.0.0.1", "192.168.0.1", "172.16.0.1", "fd00::1", "::ffff:10.0.0.1"]
)
def test_a_local_peer_that_sends_the_header_is_an_undeclared_proxy(peer: str) -> None:
    client = resolve_client(peer, [b"1.2.3.4"], UNDECLARED)
    assert client == Client(peer=parse_address(peer), address=parse_address(peer), undeclared_proxy=True)


def test_a_unix_socket_that_brings_the_header_is_an_undeclared_proxy() -> None:
    assert resolve_client(None, [b"1.2.3.4"], UNDECLARED) == Client(undeclared_proxy=True)


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies"),
    [
        ("127.0.0.1", [], UNDECLARED),
        ("203.0.113.7", [b"1.2.3.4"], UNDECLARED),
        ("127.0.0.1", [b"1.2.3.4"], NO_PROXY),
        ("192.168.0.1", [b"1.2.3.4"], BEHIND_A_PROXY),
        ("<script>", [b"1.2.3.4"], UNDECLARED),
        (None, [], UNDECLARED),
    ],
)
def test_nothing_else_is_an_undeclared_proxy(peer: str | None, forwarded: list[bytes], proxies: Proxies) -> None:
    client = resolve_client(peer, forwarded, proxies)
    assert (client.undeclared_proxy, client.trusted_proxy, client.address) == (False, False, client.peer)


@pytest.mark.parametrize("peer", ["<script>alert(1)</script>", "", "unix", "1.2.3.4:5", "x" * 100_000])
@pytest.mark.parametrize("proxies", [UNIX, BEHIND_A_PROXY, UNDECLARED, NO_PROXY])
def test_a_peer_that_is_no_address_is_nobody_and_not_a_unix_socket(peer: str, proxies: Proxies) -> None:
    assert resolve_client(peer, [b"1.2.3.4"], proxies) == Client()


def test_a_declared_unix_socket_is_believed_and_nobody_else() -> None:
    assert resolve_client(None, [b"6.6.6.6, 1.2.3.4"], UNIX) == Client(address=ip("1.2.3.4"), trusted_proxy=True)
    assert resolve_client("127.0.0.1", [b"1.2.3.4"], UNIX).address == ip("127.0.0.1")


@pytest.mark.parametrize(
    ("count", "values", "expected"),
    [
        (1, ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        (2, ["6.6.6.6, 1.2.3.4, 5.6.7.8"], "1.2.3.4"),
        (2, ["6.6.6.6, 1.2.3.4", "5.6.7.8"], "1.2.3.4"),
        (1, ["<script>, [2001:db8::1]:99"], "2001:db8::1"),
        (2, ["1.2.3.4, <script>"], "1.2.3.4"),
        (3, ["1.2.3.4, 5.6.7.8"], None),
        (1, [], None),
        (1, [""], None),
        (1, ["1.2.3.4, unknown"], None),
        (64, [",".join(["9.9.9.9"] * 64)], "9.9.9.9"),
    ],
)
def test_a_number_of_proxies_counts_from_the_right(count: int, values: list[str], expected: str | None) -> None:
    proxies = Proxies.from_settings(None, "X-Forwarded-For", count)
    client = resolve_client("203.0.113.7", [value.encode() for value in values], proxies)
    address = None if expected is None else ip(expected)
    assert client == Client(peer=ip("203.0.113.7"), address=address, trusted_proxy=True, malformed=expected is None)


def test_a_number_of_proxies_with_their_networks_trusts_only_these() -> None:
    proxies = Proxies.from_settings(["10.0.0.0/8"], "X-Forwarded-For", 2)
    forwarded = [b"1.2.3.4, 5.6.7.8"]
    assert resolve_client("203.0.113.7", forwarded, proxies).address == ip("203.0.113.7")
    assert resolve_client(PROXY, forwarded, proxies).address == ip("1.2.3.4")


def test_the_settings_are_read() -> None:
    proxies = Proxies.from_settings(["10.0.0.0/8", "unix", "2001:db8::1", "::ffff:192.0.2.1"], "X-Real-IP", None)
    expected = NetworkSet([ip_network(text) for text in ("10.0.0.0/8", "2001:db8::1/128", "192.0.2.1/32")])
    assert proxies == Proxies(networks=expected, unix=True, declared=True, header=b"x-real-ip", count=None)


def test_saying_nothing_is_not_saying_none() -> None:
    assert (UNDECLARED.declared, NO_PROXY.declared) == (False, True)
    assert Proxies.from_settings(None, "X-Forwarded-For", 1).declared


@pytest.mark.parametrize(
    ("trusted", "header", "count", "words"),
    [
        (["*"], "X-Forwarded-For", None, "how many"),
        (["0.0.0.0/0"], "X-Forwarded-For", None, "trusts everyone"),
        (["::/0"], "X-Forwarded-For", None, "trusts everyone"),
        (["proxy.example.com"], "X-Forwarded-For", None, "not an IP address"),
        (["UNIX"], "X-Forwarded-For", None, "not an IP address"),
        ([""], "X-Forwarded-For", None, "not an IP address"),
        ("10.0.0.0/8", "X-Forwarded-For", None, "list"),
        (None, "X-Forwarded-For", 0, "number of proxies"),
        (None, "X-Forwarded-For", -1, "number of proxies"),
        (None, "X-Forwarded-For", 65, "number of proxies"),
        ([], "X-Forwarded-For", 1, "no proxy"),
        (None, "HTTP_X_FORWARDED_FOR", None, "header"),
        (None, "Forwarded", None, "header"),
        (None, "X Forwarded", None, "header"),
        (None, "", None, "header"),
        (None, "X-Forwarded-För", None, "header"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    trusted: Sequence[str] | None, header: str, count: int | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Proxies.from_settings(trusted, header, count)


entry_addresses = st.one_of(
    st.ip_addresses(v=4),
    st.integers(0, 2**24 - 1).map(lambda number: IPv4Address((10 << 24) + number)),
    st.integers(0, 2**80 - 1).map(lambda number: IPv6Address(int(IPv6Address("2001:db8:ffff::")) + number)),
    st.integers(0, 2**64 - 1).map(lambda number: IPv6Address(int(IPv6Address("2001:db8::")) + number)),
)


def spellings(address: IPAddress) -> list[str]:
    if isinstance(address, IPv4Address):
        return [str(address), f"{address}:80", f'"{address}:80"', f"::ffff:{address}", f" {address} "]
    return [str(address), f"[{address}]", f'"[{address}]:80"', address.exploded, str(address).upper()]


@given(st.data(), st.lists(entry_addresses, min_size=1, max_size=20))
def test_the_walk_agrees_with_an_oracle_whatever_the_spelling_and_the_lines(
    data: st.DataObject, entries: list[IPAddress]
) -> None:
    trusted: list[IPNetwork] = [IPv4Network("10.0.0.0/8"), IPv6Network("2001:db8:ffff::/48")]
    expected = next((e for e in reversed(entries) if not any(e in network for network in trusted)), entries[0])
    texts = [data.draw(st.sampled_from(spellings(entry))).encode() for entry in entries]
    cut = data.draw(st.integers(0, len(texts)))
    lines = [b",".join(part) for part in (texts[:cut], texts[cut:]) if part]
    assert resolve_client(PROXY, lines, BEHIND_A_PROXY).address == expected


all_proxies = st.sampled_from([BEHIND_A_PROXY, UNDECLARED, NO_PROXY, UNIX, Proxies.from_settings(None, "X-A", 2)])


@given(st.none() | st.text() | st.sampled_from([PROXY, "127.0.0.1"]), st.lists(st.binary(), max_size=5), all_proxies)
def test_finding_the_client_never_raises_and_never_invents(
    peer: str | None, forwarded: list[bytes], proxies: Proxies
) -> None:
    client = resolve_client(peer, forwarded, proxies)
    assert client.trusted_proxy or client.address == client.peer
    assert client.address is None or not client.malformed


@pytest.mark.parametrize(
    "value", [b"," * 1_000_000, b"1" * 1_000_000, b":" * 8000, b"[" * 8000, b"10.0.0.1," * 900, b'"' * 8000]
)
def test_a_long_header_costs_little(value: bytes) -> None:
    assert best_seconds(lambda: resolve_client(PROXY, [value], BEHIND_A_PROXY)) < 0.001
