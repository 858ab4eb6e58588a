"""Requests in the plainest form, as nearly all clients send them, read without Sanic's parser.

A plain request came whole and in one piece, and nothing in it asks for special treatment. Whatever else comes is not
judged here: it goes Sanic's way, where it is told what is wrong. What a well-formed head is, is decided by the same
function for both ways, and of a plain request Sanic would have read the same.
"""

from sanic.compat import Header

from scoreboard.errors import BadRequest
from scoreboard.http.addresses import UNKNOWN
from scoreboard.http.framing import HEAD_BYTES_MAX, HEAD_END, check_head

BODY_BYTES_MAX = 16 * 1024
_UNUSUAL = frozenset({"expect", "transfer-encoding", "upgrade"})


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
    end += len(HEAD_END)
    try:
        head = check_head(data[:end])
        line, *lines = head.text[: -len(HEAD_END)].decode("ascii").split("\r\n")
    except (BadRequest, UnicodeDecodeError):
        return None
    body = data[end:]
    if not head.is_http_1_1 or len(body) != head.length or len(body) > BODY_BYTES_MAX:
        return None
    fields = _parse_fields(lines)
    if fields is None:
        return None
    method, target, _ = line.split(" ")
    path, _, query = target.partition("?")
    return PlainRequest(method, path, query, Header(fields), body)


def _parse_fields(lines: list[str]) -> list[tuple[str, str]] | None:
    """Names in lower case and values; None if one of them is unusual."""
    fields = []
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.lstrip()
        if name in _UNUSUAL or (name == "connection" and value.lower() != "keep-alive"):
            return None
        fields.append((name, value))
    return fields
