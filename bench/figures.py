"""Percentiles and spreads. Samples are few enough to sort, so percentiles are exact."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

PERCENTILES = (50, 90, 95, 99)
CURVE = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100)
"""Percents at which a distribution is kept for plots."""

Figures = dict[str, Any]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest sample that is not exceeded by ``percent`` % of all (nearest rank). :param ordered: ascending."""
    assert ordered, "a percentile of nothing"
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summarise_ms(samples_s: Sequence[float]) -> Figures:
    """Count, percentiles, maximum and the distribution, in milliseconds; only a count of 0 where there is no sample."""
    if not samples_s:
        return {"count": 0}
    ordered = sorted(samples_s)
    summary: Figures = {"count": len(ordered)}
    for percent in PERCENTILES:
        summary[f"p{percent}"] = round(percentile(ordered, percent) * 1_000, 3)
    summary["max"] = round(ordered[-1] * 1_000, 3)
    summary["curve"] = [[percent, round(percentile(ordered, percent) * 1_000, 3)] for percent in CURVE]
    return summary


def middle_and_spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lowest and highest of the repeats."""
    return median(values), min(values), max(values)


def look_up_any(results: dict[str, Any], place: str) -> Any:
    """What is at a place; None if its phase did not run or had no sample."""
    found: Any = results
    for name in place.split("/"):
        found = found.get(name)
        if found is None:
            return None
    return found


def look_up(results: dict[str, Any], place: str) -> float | None:
    """The figure at a place; None if its phase did not run or had no sample."""
    found = look_up_any(results, place)
    return None if found is None else float(found)
