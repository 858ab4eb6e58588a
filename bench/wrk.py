"""wrk, where it is installed: a load generator in C, which takes less of the shared machine than any of ours.

A closed loop: its latencies are those under full load. Server and reference are measured with the same one.
"""

import re
import shutil
import subprocess
from typing import Any

TIMEOUT_SPARE_S = 20.0
UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1_000.0}


class WrkFailed(Exception):
    """wrk ended with an error, or said something else than usual."""


def find_wrk() -> str | None:
    """The program, or None where it is not installed."""
    return shutil.which("wrk")


def run_wrk(program: str, url: str, *, connections: int, seconds: float) -> dict[str, Any]:
    """Ask for one address on many connections: answers a second, latencies in milliseconds, wrong answers.

    :raises WrkFailed: if it could not.
    """
    command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", url]
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + TIMEOUT_SPARE_S)
    if run.returncode != 0:
        raise WrkFailed(f"wrk exited with {run.returncode}: {run.stderr or run.stdout}")
    return parse_output(run.stdout)


def parse_output(text: str) -> dict[str, Any]:
    """The figures in what wrk prints. :raises WrkFailed: if they are not there."""
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    shares = re.findall(r"^\s+(50|75|90|99)%\s+([0-9.]+)(us|ms|s)$", text, re.MULTILINE)
    total = re.search(r"(\d+) requests in", text)
    if rate is None or total is None or len(shares) != 4:
        raise WrkFailed(f"wrk said something unknown: {text[:500]}")
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: (.+)", text)
    return {
        "tool": "wrk",
        "per_s": float(rate[1]),
        "latency_ms": {
            "count": int(total[1]),
            **{f"p{share}": float(value) * UNITS_MS[unit] for share, value, unit in shares},
        },
        "wrong": (int(wrong[1]) if wrong else 0) + (1 if broken else 0),
        "problems": broken[1] if broken else "",
    }
