"""``python -m bench compare A B``: two result files side by side, as ratios with their spread."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def compare(arguments: Sequence[str]) -> int:
    """Print B as a multiple of A, line by line; 0, or 2 where a file can't be read."""
    parser = argparse.ArgumentParser(
        prog="python -m bench compare",
        description="Print the figures of B as multiples of A's. Where both have a reference, the multiple of their "
        "ratios to it is beside it: that one is free of how fast the machine was at the time.",
    )
    parser.add_argument("a", type=Path, metavar="A", help="a result file, of before")
    parser.add_argument("b", type=Path, metavar="B", help="a result file, of after")
    options = parser.parse_args(arguments)
    files = []
    for path in (options.a, options.b):
        try:
            files.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as exc:
            parser.error(f"{path}: {exc}")
    print(format_comparison(*files))
    return 0


def format_comparison(a: Line, b: Line) -> str:
    """The lines that both files have."""
    known = {name_of(line): line for line in a["rows"]}
    rows = [("workload", "what", "A", "B", "B/A", "spread", "of ratios", "spread")]
    for line in b["rows"]:
        before = known.get(name_of(line))
        if before is not None:
            rows.append(compare_lines(before, line))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    heads = [f"{name}: commit {run['commit'][:12]} at {run['at']}" for name, run in (("A", a), ("B", b))]
    return "\n".join([*heads, "", *lines])


def name_of(line: Line) -> tuple[str, str, str]:
    """What a line is about."""
    return line["workload"], line["what"], line.get("against", "")


def compare_lines(a: Line, b: Line) -> tuple[str, ...]:
    """One line of the comparison: the multiple of the medians, and the least and most that the repeats allow."""
    values = quotient(a, b, "value", "low", "high")
    ratios = quotient(a, b, "ratio", "ratio_low", "ratio_high") if "ratio" in a and "ratio" in b else ("", "")
    return (b["workload"], b["what"], f"{a['value']:,.4g}", f"{b['value']:,.4g}", *values, *ratios)


def quotient(a: Line, b: Line, middle: str, low: str, high: str) -> tuple[str, str]:
    """B divided by A, and its bounds."""
    if not a[middle] or not a[low] or not a[high]:
        return "", ""
    return f"x{b[middle] / a[middle]:.2f}", f"{b[low] / a[high]:.2f}..{b[high] / a[low]:.2f}"
