"""What handlers may use, put together by the composition root."""

from collections.abc import Awaitable, Callable

import msgspec

from scoreboard.administration import Administration
from scoreboard.auth import Authenticator
from scoreboard.feed import Feed
from scoreboard.http.addresses import Networks
from scoreboard.http.admission import ConnectionSlots, FailedAuthentications, Misses, StreamSlots
from scoreboard.ledger import Ledger
from scoreboard.limits import RateLimiter
from scoreboard.metrics import Metrics
from scoreboard.pages import Pages
from scoreboard.pump import Pump
from scoreboard.readiness import Readiness
from scoreboard.repair import Repair
from scoreboard.writer import Writer


class Services(msgspec.Struct):
    """The parts behind the handlers, and the few settings that concern HTTP.

    :ivar read_metrics: gives the page of metrics of the whole server.
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
    failures: FailedAuthentications
    misses: Misses
    trusted_proxies: Networks
    read_metrics: Callable[[], Awaitable[bytes]]
    fast_lane: bool
    log_reads: bool
    sign_demo: Callable[[str], str] | None
    draining: bool = False
