"""What one address may take of a server: connections, streams, failed authentications and misses.

Addresses are those of the peers, or of the clients that trusted proxies name; IPv6 counts by /64. Each process counts
by itself. Whatever is kept of addresses is bounded: by what is open, or to the ADDRESSES_MAX seen last.
"""

import asyncio
from collections import Counter, OrderedDict
from enum import Enum
from time import monotonic
from typing import Protocol

import structlog

from scoreboard.http.addresses import Address
from scoreboard.limits import LocalRates, Rate
from scoreboard.metrics import Metrics

ADDRESSES_MAX = 20_000
PROBES_MAX = 256
"""Connections beyond the bounds that may ask for health or readiness at once: each holds a file descriptor."""
PROBES_PER_ADDRESS_MAX = 8
PROBES_PER_PROXY_MAX = PROBES_MAX // 2
"""A trusted proxy brings many clients, of whom nothing is known yet; the other half is for those who come directly."""
REFUSALS_MAX = 64
"""Refused connections that may linger at once, for their answer to arrive."""
FAILURES_WINDOW_S = 60
WINDOWS_KNOWN_MAX = 10_000
"""Windows of boards that are known to exist."""
ALWAYS_THERE = ("global", "all")
WARN_EVERY_S = 5.0
CLIENTS_NAMED_MAX = 5
"""Addresses that one warning of refusals names."""
CLIENTS_COUNTED_MAX = 1_000
"""Addresses among which those are found."""

log = structlog.get_logger(__name__)


class RefusalLog:
    """Warns of refusals: of the first at once, then at most every WARN_EVERY_S how many more there were, and to whom.

    The line names those who were refused most. Of more than CLIENTS_COUNTED_MAX in an interval the later ones are
    counted without a name.

    :param event: the line's name.
    :param setting: what an operator would change.
    """

    def __init__(self, event: str, setting: str, limit: int) -> None:
        self._event, self._setting, self._limit = event, setting, limit
        self._count = 0
        self._clients: Counter[str] = Counter()
        self._rest: asyncio.TimerHandle | None = None

    def add(self, client: str) -> None:
        """One more was refused, to this client."""
        self._count += 1
        if client in self._clients or len(self._clients) < CLIENTS_COUNTED_MAX:
            self._clients[client] += 1
        if self._rest is None:
            self._tell()

    def _tell(self) -> None:
        self._rest = None
        if self._count:
            named = self._clients.most_common(CLIENTS_NAMED_MAX)
            log.warning(
                self._event,
                client=named[0][0],
                clients=dict(named),
                count=self._count,
                setting=self._setting,
                limit=self._limit,
            )
            self._count = 0
            self._clients.clear()
            self._rest = asyncio.get_running_loop().call_later(WARN_EVERY_S, self._tell)


class Place(Enum):
    """What became of a connection."""

    OPEN = "open"
    PROBE = "probe"
    """There is no place, but it may ask for health or readiness."""
    REFUSED = "refused"
    CUT = "cut"
    """It is closed at once: as many as may are waiting for their refusal to arrive."""


class Guest(Protocol):
    """A connection for which there is no place, and which may ask for health or readiness."""

    def give_way(self) -> None:
        """Be refused, because it has not said yet what it wants and others come."""


class ProbePlaces:
    """Who may ask for health or readiness although there is no place: few of each address, and few in all.

    One that comes when all are taken gets the place of the one that has been silent longest: whoever takes places
    without asking anything keeps nobody out who does.
    """

    def __init__(self) -> None:
        self._by_address: Counter[str] = Counter()
        self._silent: dict[Guest, str] = {}
        """Addresses of those who have not said what they want, in the order they came."""
        self.taken = 0

    def take(self, guest: Guest, client: Address, bound: int) -> bool:
        """Take a place, of which this client may have so many; False if there is none."""
        is_crowded = self._by_address[client.key] >= bound
        if is_crowded or self.taken >= PROBES_MAX:
            silent = (each for each, key in self._silent.items() if key == client.key or not is_crowded)
            oldest = next(silent, None)
            if oldest is None:
                return False
            oldest.give_way()
        self._by_address[client.key] += 1
        self._silent[guest] = client.key
        self.taken += 1
        return True

    def hear(self, guest: Guest) -> None:
        """It has said what it wants: it keeps its place until it is answered."""
        self._silent.pop(guest, None)

    def give_back(self, guest: Guest, client: Address) -> None:
        """Give a taken place back."""
        self._silent.pop(guest, None)
        _take_one(self._by_address, client.key)
        self.taken -= 1


class ConnectionSlots:
    """The connections of one process.

    :param open_max: all that may be open.
    :param per_address_max: of those as many may be one address's; 0 for any number.
    """

    def __init__(self, open_max: int, per_address_max: int, metrics: Metrics) -> None:
        self._open_max = open_max
        self._per_address_max = per_address_max
        self._metrics = metrics
        self._by_address: Counter[str] = Counter()
        self._full = RefusalLog("connections_refused", "SCOREBOARD_STREAMS_MAX, or the limit of open files", open_max)
        self._crowded = RefusalLog("connections_refused", "SCOREBOARD_CONNECTIONS_PER_IP_MAX", per_address_max)
        self.probes = ProbePlaces()
        self.open = 0
        self.refusing = 0

    def enter(self, peer: Address) -> bool:
        """Count a new connection; False if all that may be open are."""
        if self.open >= self._open_max:
            self._count_refusal(self._full, peer)
            return False
        self.open += 1
        return True

    def leave(self) -> None:
        """A connection that was counted has ended, or gives up its place."""
        self.open -= 1

    def hold(self, client: Address) -> bool:
        """Count a connection of a client; False if the client has as many as it may."""
        if 0 < self._per_address_max <= self._by_address[client.key]:
            self._count_refusal(self._crowded, client)
            return False
        self._by_address[client.key] += 1
        return True

    def let_go(self, client: Address) -> None:
        """A connection that was held for a client has ended."""
        _take_one(self._by_address, client.key)

    def turn_away(self, guest: Guest, client: Address, *, is_proxy: bool) -> Place:
        """What is done with a connection for which there is no place."""
        bound = PROBES_PER_PROXY_MAX if is_proxy else PROBES_PER_ADDRESS_MAX
        return Place.PROBE if self.probes.take(guest, client, bound) else self.refuse()

    def refuse(self) -> Place:
        """Whether a refused connection may linger, to be ended by :meth:`end_refusal`, or is to be closed at once."""
        if self.refusing >= REFUSALS_MAX:
            return Place.CUT
        self.refusing += 1
        return Place.REFUSED

    def end_refusal(self) -> None:
        """A refused connection has ended."""
        self.refusing -= 1

    def _count_refusal(self, log_of: RefusalLog, client: Address) -> None:
        self._metrics.connections_refused.inc()
        log_of.add(client.text)


def _take_one(counter: "Counter[str]", key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


class StreamSlots:
    """Counts open streams, in all and by address. :param per_address_max: 0 for no limit."""

    def __init__(self, total_max: int, per_address_max: int) -> None:
        self._total_max = total_max
        self._per_address_max = per_address_max
        self._by_address: Counter[str] = Counter()
        self._full = RefusalLog("streams_refused", "SCOREBOARD_STREAMS_MAX", total_max)
        self._crowded = RefusalLog("streams_refused", "SCOREBOARD_STREAMS_PER_IP_MAX", per_address_max)
        self.open = 0

    def take(self, client: Address | None) -> bool:
        """Take a slot for a stream of a client, None if it counts for no address; False when there is none."""
        if self.open >= self._total_max:
            self._full.add(client.text if client else "")
            return False
        if client is not None:
            if 0 < self._per_address_max <= self._by_address[client.key]:
                self._crowded.add(client.text)
                return False
            self._by_address[client.key] += 1
        self.open += 1
        return True

    def give_back(self, client: Address | None) -> None:
        """Give a taken slot back."""
        self.open -= 1
        if client is not None:
            _take_one(self._by_address, client.key)


class FailedAuthentications:
    """Counts by address the tokens that were not accepted, in windows that begin with the first of them.

    :param window_max: in one window; 0 for any number.
    """

    def __init__(self, window_max: int) -> None:
        self.window_max = window_max
        self._windows: OrderedDict[str, list[float]] = OrderedDict()
        """Start and count by address. They start in their order, so the first is over first."""
        self._log = RefusalLog("authentications_limited", "SCOREBOARD_AUTH_FAILURES_PER_IP_MAX", window_max)

    def add(self, client: Address) -> float | None:
        """Count one. None while there may be more, else the seconds until there may."""
        if not self.window_max:
            return None
        now = monotonic()
        self._drop_ended(now)
        window = self._windows.get(client.key)
        if window is None:
            if len(self._windows) >= ADDRESSES_MAX:
                self._windows.popitem(last=False)
            window = self._windows[client.key] = [now, 0]
        if window[1] >= self.window_max:
            self._log.add(client.text)
            return window[0] + FAILURES_WINDOW_S - now
        window[1] += 1
        return None

    def _drop_ended(self, now: float) -> None:
        while self._windows:
            key, (started_at, _) = next(iter(self._windows.items()))
            if started_at + FAILURES_WINDOW_S > now:
                return
            del self._windows[key]


class Misses:
    """Counts by address the questions for what does not exist, each of which cost a store some work, and knows windows
    of boards that do exist.

    :param rate: how many there may be; None for any number.
    """

    def __init__(self, rate: Rate | None) -> None:
        self.rate = rate
        self._rates = LocalRates(rate, keys_max=ADDRESSES_MAX) if rate else None
        self._log = RefusalLog("misses_limited", "SCOREBOARD_MISSES_PER_IP", rate.quota if rate else 0)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, client: Address) -> None:
        """Count one."""
        if self._rates is not None:
            self._rates.admit(client.key)

    def wait_s(self, client: Address) -> float:
        """Seconds until the address may miss again; 0 if it may now."""
        return self._rates.look(client.key) / 1e6 if self._rates is not None else 0.0

    def know(self, board: str, window: str) -> None:
        """A window of a board was read, so it exists. The WINDOWS_KNOWN_MAX read last are remembered."""
        self._known[board, window] = None
        self._known.move_to_end((board, window))
        if len(self._known) > WINDOWS_KNOWN_MAX:
            self._known.popitem(last=False)

    def knows(self, board: str, window: str) -> bool:
        """Whether a window of a board is known to exist."""
        return (board, window) == ALWAYS_THERE or (board, window) in self._known

    def refuse(self, client: Address) -> None:
        """Tell the log that a question was refused because of others' misses."""
        self._log.add(client.text)
