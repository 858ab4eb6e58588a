"""Where it breaks: one load is raised step by step beside the others until a bound does not hold any more."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.figures import look_up

Step = Callable[[int, int, int], dict[str, Any]]
"""Runs so many readers, submissions/s and reads/s together; the results of their phases."""

BOUNDS_MS = {
    "a submission's p95": ("post/latency_ms/p95", 50.0),
    "a leaderboard's p99": ("get/latency_ms/p99", 10.0),
    "commit to reader, p99": ("stream/from_commit_ms/p99", 100.0),
}
READER_SHARES = (0.1, 0.25, 0.5, 0.75, 1.0, 1.2)
SUBMISSION_RATES = (100, 200, 500, 1_000, 2_000, 4_000, 8_000)
READ_SHARES = (0.5, 1.0, 2.0, 3.0, 4.0)
BASE_SHARE = 0.25
"""Of the readers, while another load is raised: they alone are most of the work."""


class LevelFailed(Exception):
    """At this level an answer was wrong, or a reader could not connect."""


def find_limits(run: Step, *, readers: int, rate: int, reads_per_s: int) -> dict[str, Any]:
    """Raise readers, submissions and reads in turn, each beside the usual load of the others.

    :returns: for each the last level at which every bound held (0: none), and what broke at the next.
    """
    base = max(1, round(readers * BASE_SHARE))
    return {
        "readers": climb([round(readers * share) for share in READER_SHARES], lambda n: run(n, rate, reads_per_s)),
        "submissions_per_s": climb(SUBMISSION_RATES, lambda n: run(base, n, reads_per_s)),
        "reads_per_s": climb([round(reads_per_s * share) for share in READ_SHARES], lambda n: run(base, rate, n)),
    }


def climb(levels: Sequence[int], run: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """Go up until a level breaks a bound."""
    held, steps = 0, []
    for level in levels:
        try:
            results = run(level)
        except LevelFailed as exc:
            steps.append({"level": level, "broke": str(exc)})
            break
        figures = {name: look_up(results, place) for name, (place, _) in BOUNDS_MS.items()}
        broke = [name for name, (_, bound) in BOUNDS_MS.items() if (figures[name] or 0.0) >= bound]
        if results["stream"]["share_converged"] < 1:
            broke.append("readers that know all")
        steps.append({"level": level, "figures_ms": figures, "broke": ", ".join(broke)})
        if broke:
            break
        held = level
    return {"held": held, "broke": steps[-1]["broke"], "steps": steps}
