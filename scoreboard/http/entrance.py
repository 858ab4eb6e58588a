"""How a connection begins: whose it is, whether there is a place for it, and what is done where there is none.

- A trusted proxy may say before the first head whose connection it is, by the PROXY protocol. From anybody else that is
  refused, or anybody could be whoever they like.
- Sanic takes every connection there is. One for which there is no place may still ask for health or readiness, if few
  do; else it is told so at once and lingers shortly for the answer to arrive, and when many do that already it is cut.
"""

import asyncio
from typing import Any, Protocol

import structlog
from sanic.models.server_types import ConnInfo
from sanic.server.protocols.http_protocol import HttpProtocol

from scoreboard.errors import BadRequest, TooManyConnections
from scoreboard.http.addresses import UNKNOWN, Address, Networks, find_client, parse_address
from scoreboard.http.admission import ConnectionSlots, Place
from scoreboard.http.framing import HEAD_BYTES_MAX, HEAD_END
from scoreboard.http.last_answer import encode_last_problem
from scoreboard.http.plain import PlainRequest
from scoreboard.http.proxy_protocol import MalformedProxyHeader, ProxyHeader, begins, may_begin, read_proxy_header

PROXY_HEADER_DEADLINE_S = 5.0
PROBE_HEAD_DEADLINE_S = 1.0
PROBE_ANSWER_DEADLINE_S = 5.0
REFUSAL_LINGER_S = 1.0
REFUSAL_RETRY_AFTER_S = 5.0

log = structlog.get_logger(__name__)


class Probes(Protocol):
    """Who answers those for whom there is no place."""

    def parse(self, head: bytes, client: Address) -> PlainRequest | None: ...

    async def answer(self, request: PlainRequest) -> bytes: ...


NO_PLACE = encode_last_problem(
    TooManyConnections(
        f"this server has no place for another connection, in all or from your address; close some, or try again in "
        f"{REFUSAL_RETRY_AFTER_S:.0f} s",
        retry_after_s=REFUSAL_RETRY_AFTER_S,
    )
)


class Entrance(HttpProtocol):
    """A connection until its first head, and the ways in which it may end without Sanic.

    :ivar peer: who is at the other end.
    :ivar client: whose connection it is: the peer's, or that of whom a PROXY header names.
    """

    __slots__ = (
        "_answering",
        "_asked",
        "_entering",
        "_held_for",
        "_is_trusted",
        "_left_sanic",
        "_lingering",
        "_place",
        "_preface",
        "_slots",
        "_trusted",
        "came_by_proxy_header",
        "client",
        "peer",
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._slots: ConnectionSlots = self.app.ctx.connections
        self._trusted: Networks = self.app.ctx.trusted_proxies
        self._place = Place.OPEN
        self._held_for: Address | None = None
        self._entering = True
        self._preface: bytes | None = b""
        self._asked: bytes | None = None
        self._answering: asyncio.Task[None] | None = None
        self._left_sanic = False
        self._lingering = False
        self.peer = self.client = UNKNOWN
        self._is_trusted = False
        self.came_by_proxy_header = False

    def connection_made(self, transport: Any) -> None:
        self.peer = _peer_of(transport)
        if not self._slots.enter(self.peer):
            self._name(self.peer)
            self._turn_away(transport)
        elif self._settle(self.peer):
            super().connection_made(transport)  # type: ignore[no-untyped-call]
        else:
            self._slots.leave()
            self._turn_away(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._place is Place.OPEN:
            self._slots.leave()
            if self._held_for is not None:
                self._slots.let_go(self._held_for)
        elif self._place is Place.PROBE:
            self._slots.probes.give_back(self, self._held_for or UNKNOWN)
        elif self._place is Place.REFUSED:
            self._slots.end_refusal()
        super().connection_lost(exc)  # type: ignore[no-untyped-call]
        if self._answering is not None:
            self._answering.cancel()

    def _name(self, client: Address) -> None:
        """From here on this is whose connection it is. A trusted one is a proxy's, who may name others."""
        self.client = client
        self._is_trusted = bool(self._trusted) and client in self._trusted

    def _settle(self, client: Address) -> bool:
        """Name the client and count the connection for it; False if the client has as many as it may."""
        self._name(client)
        if self._is_trusted:
            return True
        if not self._slots.hold(client):
            return False
        self._held_for = client
        return True

    def _enter(self, data: bytes) -> bytes:
        """What is left for others of what came, as long as the connection has not entered."""
        if self._preface is not None:
            data = self._take_preface(data)
        if self._asked is not None:
            self._receive_probe(data)
            return b""
        self._entering = self._preface is not None
        return data

    # -- where there is no place

    def _turn_away(self, transport: Any) -> None:
        """Let it ask for health or readiness, or refuse it."""
        self._held_for = self.client
        self._place = self._slots.turn_away(self, self.client, is_proxy=self._is_trusted)
        self.transport = transport
        self.conn_info = self.conn_info or ConnInfo(transport)
        self._left_sanic = True
        if self._place is Place.PROBE:
            self._asked = b""
            self.loop.call_later(PROBE_HEAD_DEADLINE_S, self.give_way)
        elif self._place is Place.REFUSED:
            self._refuse(NO_PLACE)
        else:
            self.cut()

    def _receive_probe(self, data: bytes) -> None:
        """Take the one head of a connection for which there is no place."""
        assert self._asked is not None
        if self._answering is not None:
            return
        self._asked += data
        if HEAD_END not in self._asked and len(self._asked) < HEAD_BYTES_MAX:
            return
        probes: Probes = self.app.ctx.probes
        try:
            request = probes.parse(self._asked, self.client)
        except BadRequest as exc:
            self._refuse(encode_last_problem(exc))
            return
        if request is None:
            self._refuse(NO_PLACE)
            return
        self._slots.probes.hear(self)
        self._answering = self.loop.create_task(self._answer_probe(probes, request), name="probe")
        self.loop.call_later(PROBE_ANSWER_DEADLINE_S, self.cut)

    async def _answer_probe(self, probes: Probes, request: PlainRequest) -> None:
        answer = await probes.answer(request)
        self._answering = None
        if self.transport is not None and not self.transport.is_closing():
            self._refuse(answer)

    def give_way(self) -> None:
        """Be refused, having not said in time what it wants."""
        is_alive = self.transport is not None and not self.transport.is_closing()
        if is_alive and self._asked is not None and self._answering is None:
            self._refuse(NO_PLACE)

    # -- what comes before the first head

    def _take_preface(self, data: bytes) -> bytes:
        """What follows a PROXY header; nothing while that is not whole, or after it was refused."""
        assert self._preface is not None
        is_first, data = not self._preface, self._preface + data
        if not may_begin(data):
            self._preface = None
            return data
        try:
            header = self._read_header(data) if begins(data) else None
        except MalformedProxyHeader as exc:
            self._refuse_header(str(exc))
            return b""
        if header is not None:
            self._preface = None
            return data[header.length :] if self._enter_for(header) else b""
        self._preface = data
        if is_first:
            self.loop.call_later(PROXY_HEADER_DEADLINE_S, self._end_preface)
        return b""

    def _read_header(self, data: bytes) -> ProxyHeader | None:
        """The header, or None while it is not whole.

        :raises MalformedProxyHeader: if it is not well-formed, or not the peer's to send.
        """
        if not self._is_trusted:
            raise MalformedProxyHeader(f"{self.client.text} is not a trusted proxy")
        return read_proxy_header(data)

    def _enter_for(self, header: ProxyHeader) -> bool:
        """Go on for the client that a header names; False if what follows is not looked at."""
        self.came_by_proxy_header = True
        if header.client is None:
            return True
        if self._place is not Place.OPEN:
            self._name(header.client)
        elif not self._settle(header.client):
            self._slots.leave()
            self._leave_sanic()
            self._turn_away(self.transport)
        return self._place in (Place.OPEN, Place.PROBE)

    def _refuse_header(self, reason: str) -> None:
        log.info("proxy_header_refused", client=self.client.text, reason=reason)
        self._leave_sanic()
        self._refuse(encode_last_problem(BadRequest(f"the PROXY header is not taken: {reason}")))

    def _end_preface(self) -> None:
        """What may have become a PROXY header did not in time."""
        data = self._preface
        if data is None or self.transport is None or self.transport.is_closing():
            return
        self._preface = None
        if begins(data):
            self._refuse_header(f"it did not arrive within {PROXY_HEADER_DEADLINE_S:.0f} s")
        else:
            self.data_received(data)

    # -- from whom a request came

    def client_of(self, headers: Any) -> Address:
        """From where a request came: the peer, or whom trusted proxies name."""
        return self.client if not self._is_trusted else self._named_by(headers) or self.client

    def stream_client_of(self, headers: Any) -> Address | None:
        """For whom a stream counts: as :meth:`client_of`, but for nobody where a proxy asks for itself."""
        if self._is_trusted and "forwarded" not in headers and "x-forwarded-for" not in headers:
            return None
        return self.client_of(headers)

    def _named_by(self, headers: Any) -> Address | None:
        forwarded, others = headers.getall("forwarded", []), headers.getall("x-forwarded-for", [])
        return find_client(forwarded, others, self._trusted) if forwarded or others else None

    # -- how it ends

    def cut(self) -> None:
        """End the connection at once."""
        self.abort()  # type: ignore[no-untyped-call]

    def _leave_sanic(self) -> None:
        """End Sanic's task and timer of this connection, if there are, without the connection."""
        self._left_sanic = True
        for ended in (self._task, self._callback_check_timeouts):
            if ended is not None:
                ended.cancel()
        self._task = None

    def _refuse(self, answer: bytes) -> None:
        """The last answer on this connection, written past Sanic."""
        assert self.transport is not None
        self._preface = self._asked = None
        self.transport.write(answer)
        if self._place is Place.PROBE:
            self._slots.probes.give_back(self, self._held_for or UNKNOWN)
            self._place = self._slots.refuse()
        if self._place is Place.CUT:
            self.transport.close()
        else:
            self._linger(REFUSAL_LINGER_S)

    def _linger(self, seconds: float) -> None:
        """Send nothing more and discard what still comes, until the client closes or the time is over."""
        assert self.transport is not None
        self._lingering = True
        self.transport.write_eof()
        self.transport.resume_reading()
        self.loop.call_later(seconds, self.cut)


def _peer_of(transport: Any) -> Address:
    name = transport.get_extra_info("peername")
    return (parse_address(name[0]) if isinstance(name, tuple) else None) or UNKNOWN
