"""What the server counts of itself, in the Prometheus text format.

Per-event things are counted here, not logged. Values that somebody else keeps (queue length, readers) are read when
the page is asked for.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = CONTENT_TYPE_LATEST
SLICE_SAMPLES = 100
"""Lines rendered before the event loop gets its turn: half a millisecond."""
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Tally:
    """What is counted many thousand times a second: added to its counter when the page is asked for.

    Counters have locks: without their three a page, 105,000 pages/s became 119,000.
    """

    __slots__ = ("_counter", "count")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self.count = 0

    def settle(self) -> None:
        """Add what was counted."""
        count, self.count = self.count, 0
        if count:
            self._counter.inc(count)


class Metrics:
    """One registry per application, so that two in a process do not share counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._tallies: list[Tally] = []
        self.requests = self._counter("requests", "Answered requests", "route", "status")
        self._request_tallies: dict[tuple[str, int], Tally] = {}
        self.request_seconds = self._histogram(
            "request_seconds", "Time to answer, but for fast-lane pages", _SECONDS, "route"
        )
        self.batch_size = self._histogram("batch_submissions", "Submissions in one ledger transaction", _SIZES)
        self.ledger_seconds = self._histogram("ledger_seconds", "One batch in PostgreSQL", _SECONDS)
        self.ranks_seconds = self._histogram("ranks_seconds", "One batch in Redis", _SECONDS)
        self.fast_lane = self._counter("fast_lane", "Requests that the fast lane answered", "kind")
        self.pages = self._counter("pages", "Pages answered, by where they came from", "source")
        self.costly = self._counter(
            "costly_answers", "Costly reads answered: kept ones, and those that were made", "how"
        )
        self.lane_refused = self._counter("lane_refused", "Costly reads refused: too many waited", "lane")
        self.connections_refused = self._counter("connections_refused", "Connections refused: too many were open")
        self.limited = self._counter(
            "limited", "Requests refused to an address that failed or missed too often", "limit"
        )
        self.streams_opened = self._counter("streams_opened", "Streams opened, by how they began", "start")
        self.reached_back = self._counter("reached_back", "Logs continued backwards from the ledger")
        self.looked_again = self._counter("looked_again", "Looks for what readers knew that come from elsewhere")
        self.resets = self._counter("resets", "Readers of open streams that were told to begin anew")
        self.streams_cut = self._counter("streams_cut", "Streams ended by the server", "reason")
        self.folded_events = self._counter("folded_events", "Events that were folded into a later one")
        self.delivered_bytes = self._counter("stream_bytes", "Bytes written to streams")
        self.repairs = self._counter("repairs", "Replays and rebuilds of a ranking", "kind")
        self.rolled_back = self._counter("rolled_back", "Transactions that PostgreSQL undid and that were repeated")
        self.overloaded = self._counter("overloaded", "Submissions refused because too many waited")
        self.rate_limited = self._counter("rate_limited", "Submissions refused by the rate limit")
        self.loop_stall_seconds = self._histogram(
            "loop_stall_seconds", "How late a timer came, 40 times a second: the event loop stood still", _SECONDS
        )
        self.lag_events = Gauge(
            "scoreboard_lag_events", "Events by which the ranking lags most", registry=self._registry
        )

    def count_request(self, route: str, status: int) -> None:
        """Count an answer."""
        tally = self._request_tallies.get((route, status))
        if tally is None:
            tally = self._request_tallies[route, status] = self.tally(self.requests.labels(route, status))
        tally.count += 1

    def tally(self, counter: Counter) -> Tally:
        """A quicker way to count. Make one for a counter once, not for every use."""
        self._tallies.append(Tally(counter))
        return self._tallies[-1]

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A value that is read whenever the page is asked for."""
        Gauge(f"scoreboard_{name}", help_text, registry=self._registry).set_function(read)

    def render(self) -> bytes:
        """The page for a scraper."""
        return "".join(self._render_slices()).encode()

    async def render_in_slices(self) -> bytes:
        """The page for a scraper, made in pieces between which the event loop does what else there is.

        In one piece it took 15 ms, for which everybody waited.
        """
        parts = []
        for part in self._render_slices():
            parts.append(part)
            await asyncio.sleep(0)
        return "".join(parts).encode()

    def _render_slices(self) -> Iterator[str]:
        for tally in self._tallies:
            tally.settle()
        for family in self._registry.collect():
            yield from render_family(family)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"scoreboard_{name}", help_text, labels, registry=self._registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"scoreboard_{name}", help_text, labels, buckets=buckets, registry=self._registry)


def render_family(family: Metric) -> Iterator[str]:
    """A family in the text format, a slice of it at a time. The library's own renderer knows only whole pages.

    Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4).
    """
    created = f"{family.name}_created"
    name = f"{family.name}_total" if family.type == "counter" else family.name
    yield _render_head(name, family.type, family.documentation)
    samples = [sample for sample in family.samples if sample.name != created]
    for first in range(0, len(samples), SLICE_SAMPLES):
        yield "".join(map(_render_sample, samples[first : first + SLICE_SAMPLES]))
    if len(samples) < len(family.samples):
        yield _render_head(created, "gauge", family.documentation)
        yield "".join(_render_sample(sample) for sample in family.samples if sample.name == created)


def _render_head(name: str, kind: str, documentation: str) -> str:
    text = documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _render_sample(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{f'{{{labels}}}' if labels else ''} {floatToGoString(sample.value)}\n"  # type: ignore[no-untyped-call]


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


async def merge_pages(pages: Mapping[str, bytes]) -> bytes:
    """One page from those of several processes, each by its name, which becomes the label ``worker``."""
    families: dict[bytes, list[bytes]] = {}
    for worker, page in pages.items():
        await asyncio.sleep(0)  # a page takes a millisecond
        label, head = f'worker="{worker}"'.encode(), b""
        for line in page.splitlines(keepends=True):
            if line.startswith(b"# HELP"):
                head = line
            elif line.startswith(b"# TYPE"):
                head += line
            else:
                name, labels, rest = line.partition(b"{")
                if not labels:
                    name, _, rest = line.partition(b" ")
                families.setdefault(head, []).append(b"%b{%b%b%b" % (name, label, b"," if labels else b"} ", rest))
    return b"".join(part for head, samples in families.items() for part in (head, *samples))
