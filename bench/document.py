"""``python -m bench report FILE``: a result file as a page for people, in Markdown, with plots in SVG beside it."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.figures import look_up_any
from bench.limits import BOUNDS_MS
from bench.report import NOTE, format_cells

Line = dict[str, Any]
HEADINGS = ("what", "value", "spread", "ratio", "to", "goal")
DISTRIBUTIONS = {
    "latency.svg": (
        "Latency of submissions",
        {
            "1 at a time": "submit-1/post/latency_ms/curve",
            "64 at a time": "submit-64/post/latency_ms/curve",
            "100/s on schedule": "submit-scheduled/post/latency_ms/curve",
            "100/s beside streams and reads": "mixed/post/latency_ms/curve",
        },
    ),
    "fan-out.svg": (
        "From commit to a reader's socket",
        {
            "bare uvloop, a lone event": "broadcast/stream/from_commit_ms/curve",
            "nginx with nchan, a lone event": "nchan/stream/from_commit_ms/curve",
            "a lone event": "stream-lone/stream/from_commit_ms/curve",
            "10 events/s": "stream-10/stream/from_commit_ms/curve",
            "100 events/s beside reads": "mixed/stream/from_commit_ms/curve",
        },
    ),
}
GROWTH_PLOT = "growth.svg"
GROWN = {
    "1 at a time": "submit-1/post/latency_ms/p50",
    "64 at a time": "submit-64/post/latency_ms/p50",
    "leaderboard": "read-64/get/latency_ms/p50",
}


def write_report(arguments: Sequence[str]) -> int:
    """Write the page and its plots; 0, or 2 where the file can't be read or matplotlib is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m bench report", description="Write a result file as a page in Markdown, with plots in SVG."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a result file")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the page goes (a folder named like the file)")
    options = parser.parse_args(arguments)
    try:
        run = json.loads(options.file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        parser.error(f"{options.file}: {exc}")
    folder = options.out or options.file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        plots = draw_plots(run, folder)
    except ImportError as exc:
        parser.error(f"plots need matplotlib: pip install '.[bench]' ({exc})")
    page = folder / "report.md"
    page.write_text(format_page(run, plots), encoding="utf-8")
    print(f"Written to {page}")
    return 0


def format_page(run: Line, plots: Sequence[str]) -> str:
    """The page."""
    machine, parameters = run["machine"], run["parameters"]
    note = NOTE.format(cores=machine["cores"], repeats=parameters["repeats"]).replace("\n", " ")
    parts = [
        "# Benchmark",
        f"Commit `{run['commit'][:12]}`{' with changes' if run['dirty'] else ''}, {run['at']}, {run['took_s']:g} s, on "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"{machine['python']}. Phases of {parameters['seconds']:g} s, {parameters['readers']:,} streams.",
        note,
    ]
    for workload in dict.fromkeys(line["workload"] for line in run["rows"]):
        lines = [line for line in run["rows"] if line["workload"] == workload]
        parts += [f"## {workload}", format_markdown(lines)]
    parts += format_limits(next((r["limits"] for r in reversed(run.get("repeats", [])) if "limits" in r), {}))
    parts += [f"![{name.removesuffix('.svg')}]({name})" for name in plots]
    parts.append(f"What the server kept: {run['verify']['findings']}")
    return "\n\n".join(parts) + "\n"


def format_limits(limits: dict[str, Any]) -> list[str]:
    """What was reached on each step of the workload ``limits``, as Markdown tables."""
    tables = []
    for load, climbed in limits.items():
        names = list(BOUNDS_MS)
        rows = [(load.replace("_per_s", "/s").replace("_", " "), *(f"{name}, ms" for name in names), "broke")]
        rows.append(("--:", *["--:"] * len(names), "---"))
        for step in climbed["steps"]:
            figures = step.get("figures_ms", {})
            shown = (f"{figures[name]:.1f}" if figures.get(name) is not None else "" for name in names)
            rows.append((f"{step['level']:,}", *shown, step["broke"]))
        tables.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return tables


def format_markdown(lines: Sequence[Line]) -> str:
    """The lines of one workload as a Markdown table."""
    rows = [HEADINGS, ("---", "--:", "---", "--:", "---", "---")]
    for line in lines:
        _, what, value, unit, spread, ratio, against, goal = format_cells(line)
        rows.append((what, f"{value} {unit}".strip(), spread, ratio, against, goal))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw_plots(run: Line, folder: Path) -> list[str]:
    """Draw what was measured; the names of the files. :raises ImportError: if matplotlib is missing."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "bench", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3}
    drawn = []
    for name, (title, places) in DISTRIBUTIONS.items():
        curves = {label: middle_curve(run["repeats"], place) for label, place in places.items()}
        found = {label: curve for label, curve in curves.items() if curve}
        if found:
            draw_distributions(title, found, folder / name)
            drawn.append(name)
    sizes = sorted(int(name.removeprefix("users-")) for name in run["repeats"][0].get("growth", {}))
    if len(sizes) > 1:
        draw_growth(run["repeats"], sizes, folder / GROWTH_PLOT)
        drawn.append(GROWTH_PLOT)
    return drawn


def middle_curve(repeats: Sequence[Line], place: str) -> list[list[float]]:
    """The distribution of the repeat whose median is in the middle; empty where nothing was measured."""
    curves = [curve for curve in (look_up_any(results, place) for results in repeats) if curve]
    curves.sort(key=lambda curve: [ms for percent, ms in curve if percent == 50])
    return curves[len(curves) // 2] if curves else []


def draw_distributions(title: str, curves: dict[str, list[list[float]]], path: Path) -> None:
    """Milliseconds by the share of samples that took at most as long; nines are spread out."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, curve in curves.items():
        axes.plot([nines(percent) for percent, _ in curve], [ms for _, ms in curve], marker=".", label=label)
    ticks = (50, 90, 99, 99.9, 100)
    axes.set_xticks(
        [nines(percent) for percent in ticks], [f"{percent:g} %" if percent < 100 else "max" for percent in ticks]
    )
    axes.set(title=title, xlabel="share of samples that took at most so long", ylabel="ms", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def nines(percent: float) -> float:
    """Where a percentage stands on an axis on which each nine is as wide as the one before."""
    from math import log10

    return -log10(max(1 - percent / 100, 0.0003))


def draw_growth(repeats: Sequence[Line], sizes: Sequence[int], path: Path) -> None:
    """Median latencies and Redis' memory by the number of users."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    latency, memory = figure.subplots(1, 2)
    repeats = [results for results in repeats if "growth" in results]
    for label, place in GROWN.items():
        values = [sorted(look_up_any(r, f"growth/users-{size}/{place}") for r in repeats) for size in sizes]
        latency.plot(sizes, [each[len(each) // 2] for each in values], marker="o", label=label)
    latency.set(title="Median latency", xlabel="users", ylabel="ms", xscale="log", ylim=0)
    latency.legend()
    used = [look_up_any(repeats[0], f"growth/users-{size}/redis_bytes") for size in sizes]
    memory.plot(sizes, used, marker="o", color="tab:red")
    memory.set(title="Redis memory of a user", xlabel="users", ylabel="bytes", xscale="log", ylim=0)
    figure.savefig(path, metadata={"Date": None})
