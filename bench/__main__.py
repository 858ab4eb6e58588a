"""The command line: ``python -m bench [workload …]``."""

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
from bench.machine import describe_commit, describe_machine, describe_versions
from bench.processes import ChildFailed
from bench.report import NOTE, format_table, make_rows, write_results
from bench.server import SETTINGS, CommandFailed

RESULTS = Path(__file__).parent / "results"
REPEATS, SECONDS = 3, 2.0
QUICK_REPEATS, QUICK_SECONDS = 1, 1.5
REPEATS_MAX, SECONDS_MAX = 50, 120.0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the server from outside.")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"{', '.join(load.WORKLOADS)} (all)")
    parser.add_argument("--repeats", type=int, help=f"how often each phase is run ({REPEATS})")
    parser.add_argument("--seconds", type=float, help=f"how long a phase measures ({SECONDS:g}; with streams twice)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REPEATS} repeat of {QUICK_SECONDS:g} s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the JSON goes (a new file in bench/results)")
    parser.add_argument("--check", action="store_true", help="exit 1 if a limit is missed")
    return parser


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options with their defaults filled in."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    unknown = set(options.workloads) - set(load.WORKLOADS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(load.WORKLOADS)}")
    options.workloads = [name for name in load.WORKLOADS if name in options.workloads or not options.workloads]
    if options.repeats is None:
        options.repeats = QUICK_REPEATS if options.quick else REPEATS
    if options.seconds is None:
        options.seconds = QUICK_SECONDS if options.quick else SECONDS
    if not 1 <= options.repeats <= REPEATS_MAX:
        parser.error(f"--repeats {options.repeats} is not 1 to {REPEATS_MAX}")
    if not 0.5 <= options.seconds <= SECONDS_MAX:
        parser.error(f"--seconds {options.seconds:g} is not 0.5 to {SECONDS_MAX:g}")
    return options


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
            "readers": load.READERS,
            "server_settings": SETTINGS,
        },
    }


def choose_path(run: dict[str, Any]) -> Path:
    """A file named by time and commit."""
    stamp = run["at"].removesuffix("+00:00").replace(":", "").replace("-", "")
    return RESULTS / f"{stamp}Z-{run['commit'][:12]}{'-dirty' if run['dirty'] else ''}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, report, and tell by the exit status whether the figures can be trusted."""
    options = parse_options(arguments)
    stop_on_signals()
    run = describe_run(options)
    began = monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="scoreboard-bench-", ignore_cleanup_errors=True) as folder:
            outcome = load.run_workloads(
                Path(folder), options.workloads, repeats=options.repeats, seconds=options.seconds, say=say
            )
    except KeyboardInterrupt:
        say("interrupted; every process that was started has been stopped")
        return 130
    except (ChildFailed, CommandFailed, load.PhaseFailed) as exc:
        say(f"FAILED: {exc}")
        return 1
    return report(options, run | {"took_s": round(monotonic() - began, 1)}, outcome)


def report(options: argparse.Namespace, run: dict[str, Any], outcome: load.Outcome) -> int:
    """Print the table, write the file, and choose the exit status."""
    lines = make_rows(outcome.repeats, options.workloads)
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
    missed = sum(not line.get("ok", True) for line in lines)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
