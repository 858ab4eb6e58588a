"""HTTP/1.1 requests read the slow and obvious way: all bytes at once, a line at a time, by the letter of RFC 9112."""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

HEAD_BYTES_MAX = 8 * 1024
TRAILER_BYTES_MAX = 8 * 1024
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
TARGET = re.compile(rb"[!-~]+")
URL = re.compile(rb"https?://([^/?#]+)([/?].*)?", re.I)
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
SIZE = re.compile(rb"([0-9A-Fa-f]{1,64})([ \t]{0,256};[\t\x20-\x7e\x80-\xff]{0,256})?")
SIZE_BEGINS = re.compile(rb"([0-9A-Fa-f]{1,64}([ \t]{0,256}(;[\t\x20-\x7e\x80-\xff]{0,256})?)?\r?)?")
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|([A-Za-z0-9._~!$&'()*+,;=\-]|%[0-9A-Fa-f]{2})+)(:[0-9]{0,5})?")


@dataclass(frozen=True)
class Request:
    """A request as it is meant: names in lower case, no white space around values, nothing that tells of the body."""

    method: bytes
    target: bytes
    version: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Malformed(Exception):
    """These bytes are no HTTP, whatever follows them."""


class TooLarge(Malformed):
    """They may be, but nobody wants so much."""


class Incomplete(Exception):
    """More is to come."""


def read_requests(data: bytes) -> tuple[list[Request], type[Exception]]:
    """The requests that some bytes begin with, and why there are no more of them."""
    requests: list[Request] = []
    while True:
        try:
            request, data = _read_request(data)
        except (Malformed, Incomplete) as exc:
            return requests, type(exc)
        requests.append(request)


def _read_request(data: bytes) -> tuple[Request, bytes]:
    data = data.removeprefix(b"\r\n")
    lines, data = _read_section(data, HEAD_BYTES_MAX + 3, TooLarge, begins_with_request=True)
    method, target, version = lines[0].split(b" ")
    fields = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines[1:])]
    if not _is_target(method, target):
        raise Malformed
    hosts, lengths, codings = (
        [value for name, value in fields if name == wanted]
        for wanted in (b"host", b"content-length", b"transfer-encoding")
    )
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1") or not all(_is_host(host) for host in hosts):
        raise Malformed
    kept = tuple(field for field in fields if field[0] not in (b"content-length", b"transfer-encoding"))
    if codings:
        if [coding.lower() for coding in codings] != [b"chunked"] or lengths or version != b"HTTP/1.1":
            raise Malformed
        body, data = _read_chunks(data)
    else:
        if not all(re.fullmatch(rb"[0-9]+", length) for length in lengths) or len({int(each) for each in lengths}) > 1:
            raise Malformed
        length = int(lengths[0]) if lengths else 0
        if len(data) < length:
            raise Incomplete
        body, data = data[:length], data[length:]
    return Request(method, target, version, kept, body), data


def _is_target(method: bytes, target: bytes) -> bool:
    if target == b"*":
        return method == b"OPTIONS"
    url = URL.fullmatch(target)
    return target.startswith(b"/") or (url is not None and _is_host(url[1]))


def _is_host(value: bytes) -> bool:
    found = HOST.fullmatch(value)
    if found is None or int((found[3] or b":0")[1:] or 0) > 65_535:
        return False
    try:
        return not value.startswith(b"[") or IPv6Address(found[1][1:-1].decode()) is not None
    except ValueError:
        return False


def _read_section(
    data: bytes, bytes_max: int, beyond: type[Malformed], *, begins_with_request: bool
) -> tuple[list[bytes], bytes]:
    """Lines up to the first empty one, and what comes after it."""
    lines: list[bytes] = []
    rest = data[:bytes_max]
    while True:
        line, feed, rest = rest.partition(b"\n")
        if re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r.", line, re.S):
            raise Malformed
        if not feed:
            raise beyond if len(data) >= bytes_max else Incomplete
        if not line.endswith(b"\r"):
            raise Malformed
        line = line[:-1]
        if begins_with_request and not lines:
            parts = line.split(b" ")
            if len(parts) != 3 or parts[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
                raise Malformed
            if not TOKEN.fullmatch(parts[0]) or not TARGET.fullmatch(parts[1]):
                raise Malformed
        elif not line:
            return lines, rest + data[bytes_max:]
        else:
            name, colon, value = line.partition(b":")
            if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
                raise Malformed
        lines.append(line)


def _read_chunks(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, feed, rest = data.partition(b"\r\n")
        if not feed:
            raise Incomplete if SIZE_BEGINS.fullmatch(line) else Malformed
        found = SIZE.fullmatch(line)
        if found is None:
            raise Malformed
        size, data = int(found[1], 16), rest
        if size == 0:
            _, data = _read_section(data, TRAILER_BYTES_MAX + 2, Malformed, begins_with_request=False)
            return body, data
        if not b"\r\n".startswith(data[size : size + 2][:2]):
            raise Malformed
        if len(data) < size + 2:
            raise Incomplete
        body, data = body + data[:size], data[size + 2 :]
