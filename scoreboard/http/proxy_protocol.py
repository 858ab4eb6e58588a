"""The PROXY protocol: a header before all else, by which a proxy that does not read HTTP names the client.

Version 1 is a line of text, version 2 is binary. Both may name nobody (UNKNOWN, LOCAL, other families): then the peer
is meant. Nothing here decides who may send one.
Source: the PROXY protocol's specification by Willy Tarreau, sections 2.1 and 2.2.
"""

import re
from ipaddress import IPv4Address, IPv6Address

import msgspec

from scoreboard.http.addresses import Address, address_of

TEXT = b"PROXY "
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LINE_BYTES_MAX = 107
"""Of version 1, line end included."""
BLOCK_BYTES_MAX = 4_096
"""Of version 2, after its fixed part: addresses and whatever a proxy adds to them."""
_FIXED_BYTES = len(SIGNATURE) + 4
_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES = {0x00: 0, 0x11: 4, 0x21: 16, 0x31: 0}
"""Family and transport of version 2, and the bytes of an IP address of it. Streams only: HTTP comes by nothing else."""
_ADDRESSES_BYTES = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}
_V1 = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]++) ([0-9A-Fa-f:.]++) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [ -~]*+)?")
_PORT_MAX = 65_535


class MalformedProxyHeader(ValueError):
    """What begins like a PROXY header is none; the message says why."""


class ProxyHeader(msgspec.Struct, frozen=True):
    """Whom a header names, None for the peer itself, and its length in bytes."""

    client: Address | None
    length: int


def may_begin(data: bytes) -> bool:
    """Whether a PROXY header begins with these bytes, or may once there are more."""
    return any(data.startswith(mark) or mark.startswith(data) for mark in (TEXT, SIGNATURE))


def begins(data: bytes) -> bool:
    """Whether these bytes begin like a PROXY header and like nothing else."""
    return data.startswith((TEXT, SIGNATURE))


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that bytes begin with; None while it is not whole.

    :param data: what came first on a connection, for which :func:`begins` holds.
    :raises MalformedProxyHeader: if it is not as the specification has it.
    """
    return _read_text(data) if data.startswith(TEXT) else _read_binary(data)


def _read_text(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, LINE_BYTES_MAX)
    if end < 0:
        if len(data) >= LINE_BYTES_MAX:
            raise MalformedProxyHeader(f"the line has no end within {LINE_BYTES_MAX} bytes")
        return None
    line, length = data[:end], end + 2
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(None, length)
    found = _V1.fullmatch(line)
    if found is None or any(int(port) > _PORT_MAX for port in found.group(4, 5)):
        raise MalformedProxyHeader(f"{line!r} is not like 'PROXY TCP4 192.0.2.1 192.0.2.2 56324 443'")
    family = IPv4Address if found[1] == b"TCP4" else IPv6Address
    try:
        source, _ = (family(text.decode("ascii")) for text in found.group(2, 3))
    except ValueError as exc:
        raise MalformedProxyHeader(f"{line!r} has addresses that are not {found[1].decode()}'s") from exc
    return ProxyHeader(address_of(source), length)


def _read_binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED_BYTES:
        return None
    command, family = data[12], data[13]
    block_bytes = int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise MalformedProxyHeader(f"version and command are {command:#04x}, not 0x20 or 0x21")
    if block_bytes > BLOCK_BYTES_MAX:
        raise MalformedProxyHeader(f"announces {block_bytes} bytes, more than {BLOCK_BYTES_MAX}")
    if command == _PROXY and (family not in _FAMILIES or block_bytes < _ADDRESSES_BYTES[family]):
        raise MalformedProxyHeader(
            f"family and transport {family:#04x} do not go with {block_bytes} bytes of addresses"
        )
    length = _FIXED_BYTES + block_bytes
    if len(data) < length:
        return None
    size = _FAMILIES[family] if command == _PROXY else 0
    if size == 0:
        return ProxyHeader(None, length)
    packed = data[_FIXED_BYTES : _FIXED_BYTES + size]
    return ProxyHeader(address_of(IPv4Address(packed) if size == 4 else IPv6Address(packed)), length)
