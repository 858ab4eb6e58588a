"""Who a request comes from: addresses, the proxies that are trusted to name others, and how they name them.

Only the peer of a connection is certain. What a header says of the client counts where a trusted proxy sent it, and is
read from the right, because each proxy appends what it saw and a client may have written all that stands before. A
header that can't be read where it matters names nobody: the caller then takes the peer.

All of it is linear in the length of what came, and stops at the first address that is not trusted.
Source: RFC 7239 (Forwarded), RFC 4291 section 2.5.5.2 (IPv4-mapped addresses).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

ADDRESS_CHARS_MAX = 64
"""An address with its zone; whatever is longer is none."""
ADDRESSES_CACHED_MAX = 4_096
NETWORKS_MAX = 256
"""Entries of a list of networks: each may be compared with each address."""
_SHARED_BITS = 64
"""Of an IPv6 address: a household or server has all that begin with these, and counts as one."""
_MAPPED_BITS = 96
"""Of an IPv4-mapped IPv6 address: those before the IPv4 address."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# Node names with colons or brackets should be quoted, but not everybody does.
_PAIR = re.compile(rf'[ \t]*+({_WORD})=(?:"((?:[^"\\]|\\.)*+)"|([^\s;,"=]++))[ \t]*+(?:;|$)', re.DOTALL)
_QUOTE = re.compile(r'\\.|(")', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PORT = re.compile(r"[0-9]{1,5}|_[A-Za-z0-9._-]{1,32}")


class Address(msgspec.Struct, frozen=True):
    """An IP address. An IPv4-mapped one is the IPv4 address, and zones are dropped.

    :ivar key: what is counted by: the address, of IPv6 the network of 64 bits that it is in.
    """

    text: str
    key: str
    number: int
    bits: int
    is_loopback: bool


UNKNOWN = Address("unknown", "unknown", 0, 0, False)
"""Of a peer that has no IP address, as one that was gone before it was asked for."""


class Networks(msgspec.Struct, frozen=True):
    """A set of addresses: for each network its address length, mask and number."""

    masks: tuple[tuple[int, int, int], ...] = ()

    def __contains__(self, address: Address) -> bool:
        return any(bits == address.bits and address.number & mask == number for bits, mask, number in self.masks)

    def __bool__(self) -> bool:
        return bool(self.masks)


@lru_cache(ADDRESSES_CACHED_MAX)
def parse_address(text: str) -> Address | None:
    """The address that a text is, without port or brackets; None if it is none."""
    if len(text) > ADDRESS_CHARS_MAX or not text.isascii():
        return None
    try:
        return address_of(ip_address(text))
    except ValueError:
        return None


def address_of(ip: IPv4Address | IPv6Address) -> Address:
    """The address as it is compared and counted here."""
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or IPv6Address(int(ip))  # without its zone
    number = int(ip)
    if isinstance(ip, IPv4Address):
        return Address(str(ip), str(ip), number, 32, ip.is_loopback)
    shared = IPv6Address(number >> _SHARED_BITS << _SHARED_BITS)
    return Address(str(ip), f"{shared}/{_SHARED_BITS}", number, 128, ip.is_loopback)


def parse_networks(text: str) -> Networks:
    """A comma list of networks and addresses.

    :raises ValueError: if an entry is neither; its message names the entry and what would be right.
    """
    entries = [entry.strip() for entry in text.split(",")]
    if len(entries) > NETWORKS_MAX:
        raise ValueError(f"has {len(entries)} entries, more than {NETWORKS_MAX}")
    return Networks(tuple(_parse_network(entry) for entry in entries))


def _parse_network(entry: str) -> tuple[int, int, int]:
    try:
        if "%" in entry or not entry.isascii():
            raise ValueError("a zone")
        loose = ip_network(entry, strict=False)
    except ValueError as exc:
        raise ValueError(f"{entry[:100]!r} is neither an address nor a network such as 10.0.0.0/8 or fd00::/8") from exc
    if "/" in entry and ip_address(entry.partition("/")[0]) != loose.network_address:
        raise ValueError(f"{entry[:100]!r} is an address within a network; the network is {loose}")
    bits, number, length = loose.max_prefixlen, int(loose.network_address), loose.prefixlen
    mapped = loose.network_address.ipv4_mapped if isinstance(loose.network_address, IPv6Address) else None
    if mapped is not None and length >= _MAPPED_BITS:
        bits, number, length = 32, int(mapped), length - _MAPPED_BITS
    mask = (1 << bits) - (1 << (bits - length))
    return bits, mask, number


def find_client(forwarded: Sequence[str], x_forwarded_for: Sequence[str], trusted: Networks) -> Address | None:
    """The client that a trusted proxy names; None if that can't be read.

    :param forwarded: the values of all ``Forwarded`` lines; where there is one, the others are not looked at.
    :param x_forwarded_for: the values of all ``X-Forwarded-For`` lines.
    """
    nodes = _read_forwarded(",".join(forwarded)) if forwarded else _read_list(",".join(x_forwarded_for))
    return _first_untrusted(nodes, trusted)


def _first_untrusted(nodes: Iterable[Address | None], trusted: Networks) -> Address | None:
    """From right to left the first that is not trusted; where all are, the last one: nobody stands before it."""
    last: Address | None = None
    for node in nodes:
        if node is None or node not in trusted:
            return node
        last = node
    return last


def _read_list(text: str) -> Iterator[Address | None]:
    """The entries of ``X-Forwarded-For`` from right to left, None for one that is no address."""
    end = len(text)
    while end >= 0:
        comma = text.rfind(",", 0, end)
        entry = text[comma + 1 : end].strip(" \t")
        if entry:
            yield parse_node(entry)
        end = comma if comma >= 0 else -1


def _read_forwarded(text: str) -> Iterator[Address | None]:
    """The ``for`` of the elements of ``Forwarded`` from right to left, None for one without a readable address."""
    for element in _split_elements(text):
        if element.strip(" \t"):
            yield _parse_element(element)


def _split_elements(text: str) -> Iterator[str]:
    """The elements from right to left. Commas within quotes do not divide.

    Quotes are counted from the right as well: one that a client left open would otherwise swallow what the proxy adds.
    """
    end = start = len(text)
    quotes = 0
    while start >= 0:
        comma = text.rfind(",", 0, start)
        quotes += sum(found[1] is not None for found in _QUOTE.finditer(text, comma + 1, start))
        start = comma
        if quotes % 2 == 0 or comma < 0:
            yield text[comma + 1 : end]
            end, quotes = comma, 0


def _parse_element(element: str) -> Address | None:
    """The address of an element's ``for``; None if it has none, or the element is not what RFC 7239 has."""
    place, node = 0, None
    while place < len(element):
        pair = _PAIR.match(element, place)
        if pair is None:
            return None
        if pair[1].lower() == "for":
            if node is not None:
                return None
            node = _ESCAPED.sub(r"\1", pair[2]) if pair[2] is not None else pair[3]
        place = pair.end()
    return parse_node(node) if node is not None else None


def parse_node(text: str) -> Address | None:
    """The address of a node: with or without a port, IPv6 in brackets or bare; None for ``unknown``, ``_hidden``, …"""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not (rest[0] == ":" and _PORT.fullmatch(rest, 1))):
            return None
        return parse_address(host)
    host, colon, port = text.partition(":")
    if colon and ":" not in port:
        return parse_address(host) if _PORT.fullmatch(port) else None
    return parse_address(text)
