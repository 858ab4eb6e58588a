"""Requests in the plainest form, as nearly all clients send them, read without Sanic's parser.

A plain request came whole and in one piece, and nothing in it asks for special treatment. Whatever else comes is not
judged here: it goes Sanic's way, which decides what is wrong and how it is told. Of a plain request Sanic would have
read the same, by the same rules (RFC 9112).
"""

import re

from sanic.compat import Header

from scoreboard.http.addresses import UNKNOWN

HEAD_BYTES_MAX = 8 * 1024
BODY_BYTES_MAX = 16 * 1024
HEAD_END = b"\r\n\r\n"
_UNUSUAL = frozenset({"expect", "transfer-encoding", "upgrade"})
_CONTROL = frozenset("\r\n\0")
_LENGTH = re.compile(r"[0-9]{1,6}")


class PlainRequest:
    """What handlers use of a request.

    ``keep_alive`` says whether the connection goes on after the answer, ``client`` from where the request came.
    """

    __slots__ = ("body", "client", "headers", "keep_alive", "method", "path", "query_string")

    def __init__(self, method: str, path: str, query_string: str, headers: Header, body: bytes) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.body = body
        self.keep_alive = True
        self.client = UNKNOWN

    @property
    def stream(self) -> "PlainRequest":
        """Who is told that the connection shall end; of Sanic's requests that is the connection's parser."""
        return self


def parse_plain(data: bytes) -> PlainRequest | None:
    """The request that these bytes are, or None if they are not exactly one plain request."""
    end = data.find(HEAD_END)
    if not 0 < end < HEAD_BYTES_MAX:
        return None
    try:
        line, *lines = data[:end].decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        return None
    fields = _parse_fields(lines)
    if fields is None:
        return None
    method, _, rest = line.partition(" ")
    target, _, version = rest.partition(" ")
    path, _, query = target.partition("?")
    headers = Header(fields)
    body = data[end + len(HEAD_END) :]
    if version != "HTTP/1.1" or len(body) != _body_length(headers):
        return None
    return PlainRequest(method, path, query, headers, body)


def _parse_fields(lines: list[str]) -> list[tuple[str, str]] | None:
    """Names in lower case and values; None if one of them is unusual."""
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.lstrip()
        if not colon or not name.replace("-", "").isalnum() or name in _UNUSUAL or not _CONTROL.isdisjoint(line):
            return None
        if name == "connection" and value.lower() != "keep-alive":
            return None
        fields.append((name, value))
    return fields


def _body_length(headers: Header) -> int:
    """Bytes of the announced body; -1 if that is not plain."""
    lengths: list[str] = headers.getall("content-length", [])
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]) or int(lengths[0]) > BODY_BYTES_MAX:
        return -1
    return int(lengths[0])
