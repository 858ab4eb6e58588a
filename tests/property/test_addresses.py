"""Addresses, what proxies say of their clients, and what is counted by address: pure properties."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from scoreboard.http.addresses import Address, Networks, address_of, find_client, parse_address, parse_networks
from scoreboard.http.admission import (
    ADDRESSES_MAX,
    PROBES_MAX,
    PROBES_PER_ADDRESS_MAX,
    PROBES_PER_PROXY_MAX,
    REFUSALS_MAX,
    ConnectionSlots,
    FailedAuthentications,
    Misses,
    Place,
    StreamSlots,
)
from scoreboard.http.proxy_protocol import (
    BLOCK_BYTES_MAX,
    SIGNATURE,
    TEXT,
    MalformedProxyHeader,
    ProxyHeader,
    begins,
    may_begin,
    read_proxy_header,
)
from scoreboard.limits import Rate
from scoreboard.metrics import Metrics

TRUSTED = parse_networks("10.0.0.0/8, 127.0.0.1, fd00::/8")
V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)
PROXIES = st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fd00::/8")
PORTS = st.sampled_from(["", ":80", ":65535", ":_hidden"])
UNREADABLE = st.sampled_from(
    ["unknown", "_hidden", "secret", "1.2.3", "1.2.3.4.5", "[1.2.3.4]", "01.2.3.4", "::1::", "-"]
)
TIMED_CHARS = 100_000
"""Far more than a head may have, so that what grows faster than its length would be seen."""


@st.composite
def nodes(draw: st.DrawFn) -> tuple[str, Address | None]:
    """A node as a proxy may write it, and the address it stands for."""
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(UNREADABLE), None
    ip = draw(V4 | V6 | PROXIES)
    port = draw(PORTS)
    text = str(ip) if isinstance(ip, IPv4Address) else f"[{ip}]" if port or draw(st.booleans()) else str(ip)
    return text + port, address_of(ip)


def expected_client(chain: list[Address | None]) -> Address | None:
    """The rule as it is written: from the right over those trusted, the first other one; unreadable is nobody."""
    for address in reversed(chain):
        if address is None or address not in TRUSTED:
            return address
    return chain[0] if chain else None


def into_lines(parts: list[str], cut: int) -> list[str]:
    """The same list in one or two header lines."""
    return [", ".join(half) for half in (parts[:cut], parts[cut:]) if half]


@given(st.lists(nodes(), min_size=1, max_size=6), st.integers(0, 6))
def test_client_is_the_first_from_the_right_that_is_not_trusted(
    chain: list[tuple[str, Address | None]], cut: int
) -> None:
    expected = expected_client([address for _, address in chain])
    texts = [text for text, _ in chain]
    assert find_client([], into_lines(texts, cut), TRUSTED) == expected
    elements = [f'proto=https;For="{text}";by="_a,b"' if len(text) % 2 else f"for={text}" for text in texts]
    assert find_client(into_lines(elements, cut), ["9.9.9.9"], TRUSTED) == expected


@given(st.text('for=;,"\\ \t1.:[]_hx', max_size=60), V4, st.sampled_from(["for={}", 'for="{}:1"', 'by="a";for={}']))
def test_what_a_client_wrote_changes_nothing_of_what_its_proxy_adds(
    garbage: str, client: IPv4Address, form: str
) -> None:
    named = address_of(client)
    if named in TRUSTED:
        return
    assert find_client([f"{garbage}, {form.format(client)}"], [], TRUSTED) == named
    assert find_client([], [f"{garbage}, {client}"], TRUSTED) == named


@given(st.lists(st.text(max_size=80), min_size=1, max_size=4))
def test_any_text_names_an_address_or_nobody(values: list[str]) -> None:
    for found in (find_client(values, [], TRUSTED), find_client([], values, TRUSTED)):
        assert found is None or isinstance(found, Address)


@pytest.mark.parametrize(
    "piece", ["for=", '"', '\\"', ",", " ", ";", "a", "for=10.0.0.1,", 'for="10.0.0.1",', "10.0.0.1,", "[", "::,"]
)
def test_time_grows_with_the_length(piece: str) -> None:
    def measure(chars: int) -> float:
        text = piece * (chars // len(piece))
        times = []
        for _ in range(3):
            began = perf_counter()
            find_client([text], [], TRUSTED)
            find_client([], [text], TRUSTED)
            times.append(perf_counter() - began)
        return min(times)

    short, long = measure(TIMED_CHARS), measure(4 * TIMED_CHARS)
    assert long < 10 * short + 0.01, f"{short * 1e3:.1f} ms, four times the length {long * 1e3:.1f} ms"


@given(V4)
def test_mapped_addresses_are_those_that_are_mapped(ip: IPv4Address) -> None:
    assert parse_address(f"::ffff:{ip}") == parse_address(str(ip)) == address_of(ip)


@given(V6, st.text(st.characters(codec="ascii", exclude_characters="%"), min_size=1, max_size=8))
def test_zones_are_dropped(ip: IPv6Address, zone: str) -> None:
    assert parse_address(f"{ip}%{zone}") in (parse_address(str(ip)), None)
    assert parse_address(f"{ip}%eth0") == parse_address(str(ip))


@given(V6, V6)
def test_addresses_of_ipv6_count_by_64_bits(one: IPv6Address, other: IPv6Address) -> None:
    if one.ipv4_mapped or other.ipv4_mapped:
        return
    sibling = IPv6Address(int(one) ^ 1)
    assert address_of(one).key == address_of(sibling).key
    assert (address_of(one).key == address_of(other).key) == (int(one) >> 64 == int(other) >> 64)


@given(V4 | V6, st.integers(0, 128), V4 | V6)
def test_networks_hold_what_they_hold(
    ip: IPv4Address | IPv6Address, length: int, other: IPv4Address | IPv6Address
) -> None:
    network = ip_network(f"{ip}/{min(length, ip.max_prefixlen)}", strict=False)
    if isinstance(network.network_address, IPv6Address) and network.network_address.ipv4_mapped is not None:
        return
    found = parse_networks(str(network))
    assert address_of(network.network_address) in found
    if not isinstance(other, IPv6Address) or other.ipv4_mapped is None:
        assert (address_of(other) in found) == (other in network)


def test_mapped_networks_are_those_that_are_mapped() -> None:
    assert parse_networks("::ffff:10.0.0.0/104") == parse_networks("10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        ("10.0.0.0/8,", "''"),
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("10.0.0.0/33", "10.0.0.0/33"),
        ("localhost", "localhost"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("*", "*"),
        ("1.2.3.4 5.6.7.8", "1.2.3.4 5.6.7.8"),
    ],
)
def test_what_is_no_network_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match="network") as refused:
        parse_networks(text)
    assert named in str(refused.value)


# -- the PROXY protocol


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, Address | None]:
    """A PROXY header, and whom it names."""
    ip = draw(V4 | V6)
    is_v4 = isinstance(ip, IPv4Address)
    ports = draw(st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)))
    kind = draw(st.sampled_from(["text", "unknown", "binary", "local", "unspecified", "unix"]))
    if kind == "text":
        family, own = ("TCP4", "192.0.2.1") if is_v4 else ("TCP6", "2001:db8::1")
        return f"PROXY {family} {ip} {own} {ports[0]} {ports[1]}\r\n".encode(), address_of(ip)
    if kind == "unknown":
        return b"PROXY UNKNOWN" + draw(st.sampled_from([b"", b" ::1 ::1 1 2"])) + b"\r\n", None
    more = draw(st.binary(max_size=60))
    if kind == "binary":
        block = ip.packed * 2 + ports[0].to_bytes(2, "big") + ports[1].to_bytes(2, "big") + more
        return SIGNATURE + bytes([0x21, 0x11 if is_v4 else 0x21]) + len(block).to_bytes(2, "big") + block, address_of(
            ip
        )
    if kind == "unix":
        block = bytes(216) + more
        return SIGNATURE + b"\x21\x31" + len(block).to_bytes(2, "big") + block, None
    command = b"\x20\x11" if kind == "local" else b"\x21\x00"
    return SIGNATURE + command + len(more).to_bytes(2, "big") + more, None


@given(headers(), st.binary(max_size=40))
def test_header_is_read_once_it_is_whole_and_not_before(header: tuple[bytes, Address | None], rest: bytes) -> None:
    data, client = header
    for end in range(len(data)):
        part = data[:end]
        assert may_begin(part)
        assert not begins(part) or read_proxy_header(part) is None
    assert read_proxy_header(data + rest) == ProxyHeader(client, len(data))


@given(st.sampled_from([TEXT, SIGNATURE, b"PROXY TCP4 ", SIGNATURE + b"\x21\x11\x00\x0c"]), st.binary(max_size=200))
def test_any_bytes_are_a_header_or_not_yet_one_or_malformed(beginning: bytes, rest: bytes) -> None:
    try:
        found = read_proxy_header(beginning + rest)
    except MalformedProxyHeader:
        return
    assert found is None or 0 < found.length <= len(beginning + rest)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n" + b"x" * 90,
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY / HTTP/1.1\r\n",
        b"PROXY \r\n",
        b"PROXY UNKNOWN\x00\r\n",
        b"PROXY " + b"1" * 102,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x41\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\x00\x23" + bytes(35),
        SIGNATURE + b"\x21\x11" + (BLOCK_BYTES_MAX + 1).to_bytes(2, "big"),
    ],
)
def test_malformed_header_is_told_from_one_that_is_not_whole(data: bytes) -> None:
    with pytest.raises(MalformedProxyHeader):
        read_proxy_header(data)


# -- what is counted by address

ONE, TWO = address_of(ip_address("192.0.2.1")), address_of(ip_address("192.0.2.2"))


class Clock:
    """The time that modules are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        for module in ("scoreboard.http.admission", "scoreboard.limits"):
            monkeypatch.setattr(f"{module}.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Refusals are noted here instead of logged, which takes an event loop."""
    told: list[str] = []
    monkeypatch.setattr("scoreboard.http.admission.RefusalLog.add", lambda self, client: told.append(client))
    return told


def test_failures_beyond_the_bound_are_refused_until_their_minute_is_over(clock: Clock, silent: list[str]) -> None:
    failures = FailedAuthentications(100)
    assert [failures.add(ONE) for _ in range(100)] == [None] * 100
    clock.now += 20
    assert failures.add(ONE) == pytest.approx(40)
    assert failures.add(TWO) is None
    clock.now += 40.1
    assert failures.add(ONE) is None
    assert silent == [ONE.text]


def test_failures_of_ever_new_addresses_take_bounded_memory(clock: Clock, silent: list[str]) -> None:
    failures = FailedAuthentications(1)
    for number in range(ADDRESSES_MAX + 100):
        failures.add(address_of(IPv4Address(number)))
    assert len(failures._windows) == ADDRESSES_MAX
    clock.now += 61
    failures.add(ONE)
    assert len(failures._windows) == 1


def test_misses_come_back_with_time(clock: Clock, silent: list[str]) -> None:
    misses = Misses(Rate(quota=60, window_s=60))
    for _ in range(60):
        assert misses.wait_s(ONE) == 0
        misses.add(ONE)
    assert misses.wait_s(ONE) == pytest.approx(1, abs=0.01)
    assert misses.wait_s(TWO) == 0
    clock.now += 1.5
    assert misses.wait_s(ONE) == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=200))
def test_slots_are_never_more_than_there_are_and_all_come_back(steps: list[tuple[int, bool]]) -> None:
    slots, streams = ConnectionSlots(12, 4, Metrics()), StreamSlots(10, 3)
    slots._full.add = slots._crowded.add = streams._full.add = streams._crowded.add = lambda client: None  # type: ignore[method-assign]
    addresses = [address_of(IPv4Address(number)) for number in range(5)]
    held: list[Address] = []
    streaming: list[Address] = []
    for number, is_new in steps:
        client = addresses[number]
        if is_new:
            fits = len(held) < 12 and held.count(client) < 4
            entered = slots.enter(client)
            assert entered == (len(held) < 12)
            if entered and slots.hold(client):
                held.append(client)
                assert fits
            elif entered:
                slots.leave()
                assert not fits
            took = streams.take(client)
            assert took == (len(streaming) < 10 and streaming.count(client) < 3)
            streaming += [client] if took else []
        elif client in held:
            held.remove(client)
            slots.leave()
            slots.let_go(client)
        if not is_new and client in streaming:
            streaming.remove(client)
            streams.give_back(client)
        assert (slots.open, streams.open) == (len(held), len(streaming))
    for client in held:
        slots.leave()
        slots.let_go(client)
    for client in streaming:
        streams.give_back(client)
    assert (slots.open, streams.open, dict(slots._by_address), dict(streams._by_address)) == (0, 0, {}, {})


class Visitor:
    """Who comes when there is no place."""

    def __init__(self, slots: ConnectionSlots, client: Address, *, is_proxy: bool = False) -> None:
        self._slots, self._client = slots, client
        self.place = slots.turn_away(self, client, is_proxy=is_proxy)

    def give_way(self) -> None:
        self._slots.probes.give_back(self, self._client)
        self.place = self._slots.refuse()

    def ask(self) -> None:
        self._slots.probes.hear(self)

    def end(self) -> None:
        if self.place is Place.PROBE:
            self._slots.probes.give_back(self, self._client)
        elif self.place is Place.REFUSED:
            self._slots.end_refusal()


def test_places_for_probes_are_few_for_each_and_bounded_in_all() -> None:
    slots = ConnectionSlots(0, 0, Metrics())
    visitors = [Visitor(slots, ONE) for _ in range(PROBES_PER_ADDRESS_MAX + 1)]
    assert [each.place for each in visitors] == [Place.REFUSED] + [Place.PROBE] * PROBES_PER_ADDRESS_MAX
    visitors += [Visitor(slots, TWO, is_proxy=True) for _ in range(PROBES_PER_PROXY_MAX + 1)]
    visitors += [Visitor(slots, address_of(IPv4Address(number))) for number in range(PROBES_MAX)]
    places = [each.place for each in visitors]
    assert places.count(Place.PROBE) == PROBES_MAX
    assert places.count(Place.REFUSED) == REFUSALS_MAX
    assert Place.CUT in places
    for each in visitors:
        each.end()
    assert (slots.probes.taken, slots.refusing, slots.probes._silent, dict(slots.probes._by_address)) == (0, 0, {}, {})


def test_whoever_asks_keeps_the_place_and_whoever_is_silent_gives_way() -> None:
    slots = ConnectionSlots(0, 0, Metrics())
    asking = [Visitor(slots, ONE) for _ in range(PROBES_PER_ADDRESS_MAX)]
    for each in asking[1:]:
        each.ask()
    assert Visitor(slots, ONE).place is Place.PROBE
    assert [each.place for each in asking] == [Place.REFUSED] + [Place.PROBE] * (PROBES_PER_ADDRESS_MAX - 1)
    newest = Visitor(slots, ONE)
    newest.ask()
    assert newest.place is Place.PROBE
    assert Visitor(slots, ONE).place is Place.REFUSED, "all of the address's have asked"
    assert Visitor(slots, TWO).place is Place.PROBE


def test_networks_may_be_none() -> None:
    assert not Networks()
    assert ONE not in Networks()


# -- the page of metrics


@given(st.text(max_size=20), st.floats(), st.integers(0, 250))
def test_page_of_metrics_is_what_the_library_makes_of_it(label: str, value: float, series: int) -> None:
    metrics = Metrics()
    metrics.requests.labels(label, "200").inc(3)
    metrics.watch("watched", f"Help with {label!r} \\ and \n", lambda: value)
    for number in range(series):
        metrics.pages.labels(str(number)).inc()
    metrics.request_seconds.labels(label).observe(0.1)
    assert metrics.render() == generate_latest(metrics._registry)
