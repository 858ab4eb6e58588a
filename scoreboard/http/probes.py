"""Health and readiness for who comes when there is no place left: one head, one answer, and the connection ends.

Without it a full server would look dead to whoever decides whether to restart it. The head is checked as any other, and
of it the first line is read, since nothing else could change the answer.
"""

import re
from collections.abc import Mapping

from sanic.compat import Header

from scoreboard.http.addresses import Address
from scoreboard.http.framing import CRLF, HEAD_END, check_head
from scoreboard.http.plain import PlainRequest
from scoreboard.http.render import Handler, encode_answer

_LINE = re.compile(rb"(GET|HEAD) (/[a-z]{1,16})/?(\?[!-~]*+)? HTTP/1\.[01]\r\n")


class Probes:
    """Answers probes. :param handlers: of those routes, by path."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    def parse(self, head: bytes, client: Address) -> PlainRequest | None:
        """The probe that a head is, or None if it is not whole or asks for something else.

        :param head: what came first on a connection.
        :raises BadRequest: if it is malformed.
        """
        head, end, _ = head.removeprefix(CRLF).partition(HEAD_END)
        if not end:
            return None
        line = _LINE.match(check_head(head + end).text)
        if line is None or line[2].decode("ascii") not in self._handlers:
            return None
        method, path, query = (part.decode("ascii") for part in line.groups(b""))
        request = PlainRequest(method, path, query[1:], Header(), b"")
        request.client = client
        return request

    async def answer(self, request: PlainRequest) -> bytes:
        """The encoded answer to a probe."""
        response = await self._handlers[request.path](request)
        assert response is not None, "a probe's handler returns its answer"
        encoded = encode_answer(response, keep_alive=False)
        return encoded if request.method == "GET" else encoded.partition(HEAD_END)[0] + HEAD_END
