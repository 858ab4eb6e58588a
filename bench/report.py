"""The table for people and the file for comparisons."""

import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import middle_and_spread
from bench.workloads import READERS

NOTE = (
    "Load generator, server, PostgreSQL and Valkey share the {cores} cores of this machine.\n"
    "A value is the median of the repeats ({repeats}), the spread their lowest and highest.\n"
    "The ratio is to a bare Sanic application without stores, measured with the same client in the same run."
)
HEADINGS = ("workload", "what", "value", "unit", "spread", "ratio", "limit")
COMPARISONS = {">=": operator.ge, "<": operator.lt}


@dataclass(frozen=True)
class Row:
    """A line of the table: where its figure and its reference's lie in a repeat's results, and what it must hold.

    Places are paths such as ``phase/job/latency_ms/p95``.
    """

    workload: str
    what: str
    place: str
    unit: str
    reference: str | None = None
    limit: tuple[str, float] | None = None


def _delivery_rows(workload: str, phase: str, rate: int, limit: tuple[str, float] | None) -> list[Row]:
    at = f"at {rate}/s: "
    return [
        Row(workload, f"{at}POST sent to reader, p50", f"{phase}/stream/from_send_ms/p50", "ms"),
        Row(workload, f"{at}POST sent to reader, p99", f"{phase}/stream/from_send_ms/p99", "ms"),
        Row(workload, f"{at}commit to reader, p50", f"{phase}/stream/from_commit_ms/p50", "ms"),
        Row(workload, f"{at}commit to reader, p99", f"{phase}/stream/from_commit_ms/p99", "ms", None, limit),
        Row(workload, f"{at}commit to last reader, p99", f"{phase}/stream/last_reader_from_commit_ms/p99", "ms"),
        Row(
            workload, f"{at}readers that know all", f"{phase}/stream/converged", f"of {READERS}", None, (">=", READERS)
        ),
    ]


def _scheduled_rows(workload: str, phase: str, job: str, what: str, limits: dict[str, float]) -> list[Row]:
    return [
        Row(
            workload,
            f"{what}, {name}",
            f"{phase}/{job}/latency_ms/{name}",
            "ms",
            f"reference-scheduled/{job}/latency_ms/{name}",
            ("<", limits[name]) if name in limits else None,
        )
        for name in ("p50", "p95", "p99")
    ]


def _closed_rows(workload: str, phase: str, bare: str, job: str, count: int, least: float | None) -> list[Row]:
    what = f"{count} at a time"
    limit = (">=", least) if least is not None else None
    return [
        Row(workload, f"{what}", f"{phase}/{job}/per_s", "/s", f"{bare}/{job}/per_s", limit),
        *(
            Row(
                workload, f"{what}, {name}", f"{phase}/{job}/latency_ms/{name}", "ms", f"{bare}/{job}/latency_ms/{name}"
            )
            for name in ("p50", "p99")
        ),
    ]


ROWS = [
    *_closed_rows("submit", "submit-1", "echo-1", "post", 1, None),
    *_closed_rows("submit", "submit-64", "echo-64", "post", 64, 6_000),
    *_scheduled_rows("submit", "submit-scheduled", "post", "scheduled 100/s", {}),
    *_closed_rows("read", "read-64", "ready-64", "get", 64, None),
    *_delivery_rows("stream", "stream-10", 10, None),
    *_delivery_rows("stream", "stream-100", 100, None),
    *_scheduled_rows("mixed", "mixed", "post", "submission at 100/s", {"p95": 50}),
    *_scheduled_rows("mixed", "mixed", "get", "leaderboard at 100/s", {"p99": 10}),
    *_delivery_rows("mixed", "mixed", 100, ("<", 100)),
]


def look_up(results: dict[str, Any], place: str) -> float | None:
    """The figure at a place; None if its phase did not run or had no sample."""
    found: Any = results
    for name in place.split("/"):
        found = found.get(name)
        if found is None:
            return None
    return float(found)


def make_rows(repeats: Sequence[dict[str, Any]], workloads: Sequence[str]) -> list[dict[str, Any]]:
    """The table's lines as plain values."""
    lines = []
    for row in ROWS:
        values = [look_up(results, row.place) for results in repeats]
        if row.workload not in workloads or None in values:
            continue
        value, low, high = middle_and_spread(values)  # type: ignore[arg-type]  # no value is None here
        line = {"workload": row.workload, "what": row.what, "value": value, "unit": row.unit, "low": low, "high": high}
        ratios = [_ratio(results, row) for results in repeats]
        if None not in ratios:
            line["ratio"], line["ratio_low"], line["ratio_high"] = middle_and_spread(ratios)  # type: ignore[arg-type]
        if row.limit is not None:
            comparison, bound = row.limit
            line |= {"limit": f"{comparison} {bound:g}", "ok": COMPARISONS[comparison](value, bound)}
        lines.append(line)
    return lines


def _ratio(results: dict[str, Any], row: Row) -> float | None:
    value, reference = look_up(results, row.place), look_up(results, row.reference or "-")
    return value / reference if value is not None and reference else None


def format_table(lines: Sequence[dict[str, Any]]) -> str:
    """The lines in columns."""
    cells = [HEADINGS, *(_format_line(line) for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    numbers = {HEADINGS.index(name) for name in ("value", "ratio")}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _format_line(line: dict[str, Any]) -> tuple[str, ...]:
    return (
        line["workload"],
        line["what"],
        _format(line["value"]),
        line["unit"],
        f"{_format(line['low'])}..{_format(line['high'])}",
        f"x{line['ratio']:.2f}" if "ratio" in line else "",
        f"{line['limit']} {'ok' if line['ok'] else 'MISSED'}" if "limit" in line else "",
    )


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 or value == int(value) else f"{value:.2f}"


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write everything that was measured, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
