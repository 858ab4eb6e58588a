"""The command line: ``python -m bench [workload …]``, ``… compare A B`` and ``… report FILE``."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from bench import workloads as load
from bench.compare import compare
from bench.document import write_report
from bench.machine import describe_commit, describe_machine, describe_versions
from bench.nchan import find_nchan
from bench.pgbench import PgbenchFailed, find_pgbench
from bench.processes import ChildFailed
from bench.report import NOTE, find_missed, format_table, make_rows, write_results
from bench.server import SETTINGS, CommandFailed
from bench.wrk import WrkFailed, find_wrk

RESULTS = Path(__file__).parent / "results"
REPEATS, SECONDS = 3, 2.0
READERS, READS_PER_S = 10_000, 10_000
QUICK_REPEATS, QUICK_SECONDS, QUICK_READERS, QUICK_READS_PER_S = 1, 2.0, 1_000, 1_000
REPEATS_MAX, SECONDS_MAX, READERS_MAX, READS_PER_S_MAX = 50, 120.0, 15_000, 50_000
WORKERS_MAX = 64


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the server from outside.",
        epilog="python -m bench compare A B holds two result files against each other, python -m bench report FILE "
        "makes a page with plots; each has a --help of its own.",
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(load.WORKLOADS)} (all)")
    parser.add_argument("--repeats", type=int, help=f"how often each phase is run ({REPEATS})")
    parser.add_argument("--seconds", type=float, help=f"how long a phase measures ({SECONDS:g}; with streams twice)")
    parser.add_argument("--readers", type=int, help=f"open streams in the phases that have any ({READERS})")
    parser.add_argument("--reads", type=int, help=f"leaderboard reads/s beside the streams ({READS_PER_S})")
    parser.add_argument("--workers", type=int, help="processes of the server (1)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_REPEATS} repeat of {QUICK_SECONDS:g} s, {QUICK_READERS} streams, {QUICK_READS_PER_S} reads/s",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the JSON goes (a new file in bench/results)")
    parser.add_argument(
        "--check", action="store_true", help="exit 1 if a goal or a limit is missed by the median of at least 3 repeats"
    )
    parser.add_argument(
        "--margin",
        type=float,
        help="share of a goal that is enough, 0.1 to 1: 0.5 is content with half of a rate and twice a time (1)",
    )
    return parser


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options with their defaults filled in."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    unknown = set(options.workloads) - set(load.WORKLOADS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(load.WORKLOADS)}")
    asked = options.workloads or (load.QUICK_WORKLOADS if options.quick else load.WORKLOADS)
    options.workloads = [name for name in load.WORKLOADS if name in asked]
    fill_in(parser, options, "repeats", QUICK_REPEATS if options.quick else REPEATS, 1, REPEATS_MAX)
    fill_in(parser, options, "seconds", QUICK_SECONDS if options.quick else SECONDS, 0.5, SECONDS_MAX)
    fill_in(parser, options, "readers", QUICK_READERS if options.quick else READERS, 1, READERS_MAX)
    fill_in(parser, options, "reads", QUICK_READS_PER_S if options.quick else READS_PER_S, 1, READS_PER_S_MAX)
    fill_in(parser, options, "workers", 1, 1, WORKERS_MAX)
    fill_in(parser, options, "margin", 1.0, 0.1, 1.0)
    return options


def fill_in(
    parser: argparse.ArgumentParser, options: argparse.Namespace, name: str, default: float, low: float, high: float
) -> None:
    """Set an option that was not given, and refuse one that is out of bounds."""
    if getattr(options, name) is None:
        setattr(options, name, default)
    value = getattr(options, name)
    if not low <= value <= high:
        parser.error(f"--{name} {value:g} is not {low:g} to {high:g}")


def stop_on_signals() -> None:
    """Turn the first SIGINT or SIGTERM into KeyboardInterrupt; later ones must not disturb the cleaning up."""

    def interrupt(number: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, interrupt)


def say(line: str) -> None:
    """Tell a person how far it is."""
    print(line, file=sys.stderr, flush=True)


def describe_run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything a reader of the figures needs to judge them."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe_commit(),
        "machine": describe_machine(),
        "versions": describe_versions(),
        "parameters": {
            "workloads": options.workloads,
            "repeats": options.repeats,
            "seconds": options.seconds,
            "warmup_share": load.WARMUP_SHARE,
            "users": len(load.USERS),
            "readers": options.readers,
            "reads_per_s": options.reads,
            "workers": options.workers,
            "tools": {
                "wrk": find_wrk() is not None,
                "pgbench": find_pgbench() is not None,
                "nchan": find_nchan() is not None,
            },
            "server_settings": SETTINGS,
        },
    }


def choose_path(run: dict[str, Any]) -> Path:
    """A file named by time and commit."""
    stamp = run["at"].removesuffix("+00:00").replace(":", "").replace("-", "")
    return RESULTS / f"{stamp}Z-{run['commit'][:12]}{'-dirty' if run['dirty'] else ''}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, report, and tell by the exit status whether the figures can be trusted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["compare"]:
        return compare(arguments[1:])
    if arguments[:1] == ["report"]:
        return write_report(arguments[1:])
    options = parse_options(arguments)
    stop_on_signals()
    run = describe_run(options)
    began = monotonic()

    def doubt(repeats: Sequence[dict[str, Any]]) -> list[str]:
        return find_missed(make_rows(repeats, options.workloads, margin=options.margin)) if options.check else []

    try:
        with tempfile.TemporaryDirectory(prefix="scoreboard-bench-", ignore_cleanup_errors=True) as folder:
            outcome = load.run_workloads(
                Path(folder),
                options.workloads,
                repeats=options.repeats,
                seconds=options.seconds,
                readers=options.readers,
                reads_per_s=options.reads,
                workers=options.workers,
                say=say,
                find_missed=doubt,
            )
    except KeyboardInterrupt:
        say("interrupted; every process that was started has been stopped")
        return 130
    except (ChildFailed, CommandFailed, PgbenchFailed, WrkFailed, load.PhaseFailed) as exc:
        say(f"FAILED: {exc}")
        return 1
    return report(options, run | {"took_s": round(monotonic() - began, 1)}, outcome)


def report(options: argparse.Namespace, run: dict[str, Any], outcome: load.Outcome) -> int:
    """Print the table, write the file, and choose the exit status."""
    lines = make_rows(outcome.repeats, options.workloads, margin=options.margin)
    machine = run["machine"]
    print(f"commit {run['commit']}{' with changes' if run['dirty'] else ''}, took {run['took_s']:g} s")
    print(f"{machine['cpu']}, {machine['memory_gib']} GiB, {machine['kernel']}, {machine['python']}")
    print(NOTE.format(cores=machine["cores"], repeats=options.repeats), end="\n\n")
    print(format_table(lines), end="\n\n")
    print(outcome.findings)
    path = options.out or choose_path(run)
    verdict = {"consistent": outcome.consistent, "findings": outcome.findings}
    write_results(path, run | {"rows": lines, "verify": verdict, "repeats": outcome.repeats})
    print(f"Written to {path}")
    if not outcome.consistent:
        say("FAILED: what the server kept is not what it accepted; the figures above mean nothing")
        return 1
    return 1 if options.check and find_missed(lines) else 0


if __name__ == "__main__":
    sys.exit(main())
