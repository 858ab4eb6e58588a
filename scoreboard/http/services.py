"""What handlers may use, put together by the composition root."""

from collections.abc import Awaitable, Callable

import msgspec

from scoreboard.administration import Administration
from scoreboard.auth import Authenticator
from scoreboard.feed import Feed
from scoreboard.http.protocol import ConnectionSlots
from scoreboard.ledger import Ledger
from scoreboard.limits import RateLimiter
from scoreboard.metrics import Metrics
from scoreboard.pages import Pages
from scoreboard.pump import Pump
from scoreboard.readiness import Readiness
from scoreboard.repair import Repair
from scoreboard.writer import Writer


class StreamSlots:
    """Counts open streams, in all and by address. :param per_address_max: 0 for no limit."""

    def __init__(self, total_max: int, per_address_max: int) -> None:
        self._total_max = total_max
        self._per_address_max = per_address_max
        self._by_address: dict[str, int] = {}
        self.open = 0

    def take(self, address: str) -> bool:
        """Take a slot for a stream from an address; False when there is none."""
        held = self._by_address.get(address, 0)
        if self.open >= self._total_max or 0 < self._per_address_max <= held:
            return False
        self._by_address[address] = held + 1
        self.open += 1
        return True

    def give_back(self, address: str) -> None:
        """Give a taken slot back."""
        self.open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class Services(msgspec.Struct):
    """The parts behind the handlers, and the few settings that concern HTTP.

    :ivar render_metrics: gives the page of metrics of the whole server.
    :ivar fast_lane: whether plain requests are answered without Sanic's parser.
    :ivar log_reads: whether successful reads are logged too, each of them.
    :ivar sign_demo: signs a token for a demo user; None where there is no demo.
    :ivar draining: set when the server is about to end: not ready any more.
    """

    authenticator: Authenticator
    limiter: RateLimiter
    writer: Writer
    administration: Administration
    pages: Pages
    feed: Feed
    pump: Pump
    ledger: Ledger
    readiness: Readiness
    repair: Repair
    metrics: Metrics
    public_reads: bool
    cors_origins: tuple[str, ...]
    slots: StreamSlots
    connections: ConnectionSlots
    render_metrics: Callable[[], Awaitable[bytes]]
    fast_lane: bool
    log_reads: bool
    sign_demo: Callable[[str], str] | None
    draining: bool = False
