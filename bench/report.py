"""The table for people and the file for comparisons."""

import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import look_up, middle_and_spread
from bench.workloads import BATCH_SIZE, GROWTH

NOTE = (
    "Load generators, server, PostgreSQL and Valkey share the {cores} cores of this machine.\n"
    "A value is the median of the repeats ({repeats}; with --check 3 where fewer missed a goal), the spread their\n"
    "lowest and highest. A ratio divides a figure by that of its reference, measured in the same repeat, over HTTP\n"
    "with the same client."
)
HEADINGS = ("workload", "what", "value", "unit", "spread", "ratio", "to", "goal")
COMPARISONS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}

Bound = tuple[str, float]


@dataclass(frozen=True)
class Row:
    """A line of the table: where its figure and its reference's lie in a repeat's results, and what they must hold.

    Places are paths such as ``phase/job/latency_ms/p95``.

    :ivar against: what the reference is called.
    :ivar limit: a bound of the figure itself.
    :ivar exact: whether the limit, a least value, allows no margin and must hold in each repeat.
    :ivar goal: a bound of its ratio to the reference.
    """

    workload: str
    what: str
    place: str
    unit: str
    reference: str | None = None
    against: str = ""
    limit: Bound | None = None
    goal: Bound | None = None
    exact: bool = False


def _submit_rows() -> Iterator[Row]:
    sanic, usual = "bare Sanic", "usual transaction in pgbench"
    lone, busy = "submit-1/post", "submit-64/post"
    yield Row("submit", "1 at a time", f"{lone}/per_s", "/s", "echo-1/post/per_s", sanic)
    yield Row(
        "submit",
        "1 at a time, p50",
        f"{lone}/latency_ms/p50",
        "ms",
        "echo-1/post/latency_ms/p50",
        sanic,
        goal=("<=", 6.0),
    )
    yield Row("submit", "64 at a time", f"{busy}/per_s", "/s", "echo-64/post/per_s", sanic, goal=(">=", 0.65))
    yield Row("submit", "64 at a time", f"{busy}/per_s", "/s", "pgbench/at-20/per_s", usual, goal=(">=", 1.3))
    what = f"in batches of {BATCH_SIZE:,}"
    yield Row("submit", what, "batches/post/per_s", "/s", limit=(">=", 20_000.0))
    yield Row(
        "submit", what, "batches/post/per_s", "/s", "ceilings/postgres-256/per_s", "PostgreSQL alone, batches of 256"
    )
    for place, against in (("postgres-32", "PostgreSQL alone, batches of 32"), ("redis-32", "script alone, same")):
        yield Row("submit", "64 at a time", f"{busy}/per_s", "/s", f"ceilings/{place}/per_s", against)
    yield Row("submit", "64 at a time, p50", f"{busy}/latency_ms/p50", "ms", "echo-64/post/latency_ms/p50", sanic)
    yield Row("submit", "64 at a time, p95", f"{busy}/latency_ms/p95", "ms", limit=("<", 50.0))
    yield Row("submit", "64 at a time, p99", f"{busy}/latency_ms/p99", "ms")
    for name in ("p50", "p95", "p99"):
        place = f"post/latency_ms/{name}"
        what = f"scheduled 100/s, {name}"
        yield Row("submit", what, f"submit-scheduled/{place}", "ms", f"reference-scheduled/{place}", sanic)


def _read_rows() -> Iterator[Row]:
    bare, sanic = "ready-64/get", "bare Sanic"
    yield Row("read", "64 at a time", "read-64/get/per_s", "/s", f"{bare}/per_s", sanic, goal=(">=", 4.0))
    yield Row("read", "64 at a time", "read-64/get/per_s", "/s", "bare-64/get/per_s", "bare uvloop")
    yield Row("read", "64 at a time, p50", "read-64/get/latency_ms/p50", "ms", f"{bare}/latency_ms/p50", sanic)
    yield Row("read", "64 at a time, p99", "read-64/get/latency_ms/p99", "ms", limit=("<", 2.0))
    what = "64 at a time, no fast lane"
    yield Row("read", what, "read-64-ordinary/get/per_s", "/s", f"{bare}/per_s", sanic, goal=(">=", 0.9))


def _stream_rows() -> Iterator[Row]:
    lone, bare = "stream-lone/stream", "broadcast/stream"
    yield Row(
        "stream",
        "connecting all readers",
        f"{lone}/connect_s",
        "s",
        f"{bare}/connect_s",
        "bare uvloop",
        limit=("<", 3.0),
    )
    for name in ("p50", "p99"):
        place = f"from_commit_ms/{name}"
        yield Row(
            "stream",
            f"a lone event, commit to reader, {name}",
            f"{lone}/{place}",
            "ms",
            f"{bare}/{place}",
            "bare uvloop",
            limit=("<", 100.0),
            goal=("<=", 1.3) if name == "p99" else None,
        )
    yield Row(
        "stream",
        "a lone event, commit to reader, p99",
        f"{lone}/from_commit_ms/p99",
        "ms",
        "nchan/stream/from_commit_ms/p99",
        "nginx with nchan",
        goal=("<=", 1.0),
    )
    yield Row("stream", "memory of a reader", f"{lone}/reader_bytes", "bytes", limit=("<=", 8_192.0))
    yield Row("stream", "share of a core at rest", f"{lone}/rest_cpu_share", "", limit=("<=", 0.05))
    yield Row("stream", "share of readers that know all", f"{lone}/share_converged", "", limit=(">=", 1.0), exact=True)
    yield from _delivery_rows("stream", "stream-10", 10, None)


def _delivery_rows(workload: str, phase: str, rate: int, limit: Bound | None) -> Iterator[Row]:
    at = f"at {rate}/s: "
    yield Row(workload, f"{at}POST sent to reader, p99", f"{phase}/stream/from_send_ms/p99", "ms")
    yield Row(workload, f"{at}commit to reader, p50", f"{phase}/stream/from_commit_ms/p50", "ms")
    yield Row(workload, f"{at}commit to reader, p99", f"{phase}/stream/from_commit_ms/p99", "ms", limit=limit)
    yield Row(
        workload, f"{at}share that knows all", f"{phase}/stream/share_converged", "", limit=(">=", 1.0), exact=True
    )


def _mixed_rows() -> Iterator[Row]:
    for name, limit in (("p50", None), ("p95", ("<", 50.0)), ("p99", None)):
        yield Row("mixed", f"submission, {name}", f"mixed/post/latency_ms/{name}", "ms", limit=limit)
    for name, limit in (("p50", None), ("p99", ("<", 10.0))):
        yield Row("mixed", f"leaderboard, {name}", f"mixed/get/latency_ms/{name}", "ms", limit=limit)
    yield from _delivery_rows("mixed", "mixed", 100, ("<", 100.0))


def _limit_rows() -> Iterator[Row]:
    for what, place, unit in (
        ("readers", "readers", ""),
        ("submissions", "submissions_per_s", "/s"),
        ("leaderboard reads", "reads_per_s", "/s"),
    ):
        yield Row("limits", f"most {what} beside the others within bounds", f"limits/{place}/held", unit)


def _growth_rows() -> Iterator[Row]:
    first, against = GROWTH[0][0], f"{GROWTH[0][0]:,} users"
    for users, events in GROWTH:
        for what, place, unit in (
            ("1 at a time, p50", "submit-1/post/latency_ms/p50", "ms"),
            ("64 at a time, p50", "submit-64/post/latency_ms/p50", "ms"),
            ("leaderboard, p50", "read-64/get/latency_ms/p50", "ms"),
        ):
            yield Row(
                "growth",
                f"{users:,} users, {events:,} events: {what}",
                f"growth/users-{users}/{place}",
                unit,
                f"growth/users-{first}/{place}",
                against,
                goal=("<=", 1.3),
            )
        for what, place in (("around one, radius 50", "around"), ("100 users by id", "ids")):
            place = f"growth/users-{users}/{place}/get/latency_ms/p99"
            yield Row("growth", f"{users:,} users: {what}, p99", place, "ms", limit=("<", 5.0))
        name = f"{users:,} users: Redis memory of one"
        yield Row("growth", name, f"growth/users-{users}/redis_bytes", "bytes", limit=("<=", 110.0))


def _windows_rows() -> Iterator[Row]:
    one = "windows/one/post/per_s"
    yield Row("windows", "64 at a time, window all", one, "/s")
    what = "64 at a time, windows all, day, week, month"
    yield Row("windows", what, "windows/four/post/per_s", "/s", one, "window all", goal=(">=", 0.6))


ROWS = [
    *_submit_rows(),
    *_read_rows(),
    *_stream_rows(),
    *_mixed_rows(),
    *_limit_rows(),
    *_growth_rows(),
    *_windows_rows(),
    Row("cold", "start to first answer, your stores", "cold/external_s", "s", limit=("<", 1.0)),
    Row("cold", "start to first answer, embedded stores", "cold/embedded_s", "s", limit=("<", 4.0)),
]


def make_rows(
    repeats: Sequence[dict[str, Any]], workloads: Sequence[str], *, margin: float = 1.0
) -> list[dict[str, Any]]:
    """The table's lines as plain values.

    :param margin: share of each bound that is enough: 0.5 asks for half of a rate and allows twice a time.
    """
    lines = []
    for row in ROWS:
        values = [value for results in repeats if (value := look_up(results, row.place)) is not None]
        if row.workload not in workloads or not values:
            continue
        value, low, high = middle_and_spread(values)
        line = {"workload": row.workload, "what": row.what, "value": value, "unit": row.unit, "low": low, "high": high}
        judged = [(row.limit, low if row.exact else value, "{comparison} {bound:g}")]
        ratios = [ratio for results in repeats if (ratio := _ratio(results, row)) is not None]
        if row.reference is not None and not ratios:
            continue  # its reference was not measured: that tool is not installed
        if row.reference is not None:
            line["ratio"], line["ratio_low"], line["ratio_high"] = middle_and_spread(ratios)
            line["against"] = row.against
            judged.append((row.goal, line["ratio"], "{comparison} x{bound:g}"))
        bounds = [(bound, found, form) for bound, found, form in judged if bound is not None]
        if bounds:
            line["goal"] = ", ".join(form.format(comparison=b[0], bound=b[1]) for b, _, form in bounds)
            line["goal"] += f" (margin {margin:g})" if margin < 1 and not row.exact else ""
            allowed = 1.0 if row.exact else margin
            line["ok"] = all(_holds(found, bound, allowed) for bound, found, _ in bounds)
        lines.append(line)
    return lines


def find_missed(lines: Sequence[dict[str, Any]]) -> list[str]:
    """The workloads of which a line misses its goal."""
    return list(dict.fromkeys(line["workload"] for line in lines if not line.get("ok", True)))


def _holds(found: float, bound: Bound, margin: float) -> bool:
    comparison, limit = bound
    return COMPARISONS[comparison](found, limit * margin if comparison == ">=" else limit / margin)


def _ratio(results: dict[str, Any], row: Row) -> float | None:
    value, reference = look_up(results, row.place), look_up(results, row.reference or "-")
    return value / reference if value is not None and reference else None


def format_table(lines: Sequence[dict[str, Any]]) -> str:
    """The lines in columns."""
    cells = [HEADINGS, *(format_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    numbers = {HEADINGS.index(name) for name in ("value", "ratio")}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def format_cells(line: dict[str, Any]) -> tuple[str, ...]:
    """A line's cells under HEADINGS."""
    return (
        line["workload"],
        line["what"],
        _format(line["value"]),
        line["unit"],
        f"{_format(line['low'])}..{_format(line['high'])}",
        f"x{line['ratio']:.2f}" if "ratio" in line else "",
        line.get("against", ""),
        f"{line['goal']} {'ok' if line['ok'] else 'MISSED'}" if "goal" in line else "",
    )


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 or value == int(value) else f"{value:.2f}"


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write everything that was measured, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
