"""The workloads: phases that are run one after the other, each by processes of its own.

A repeat runs all phases in turn, rather than each phase all its repeats, so that a slow minute of the machine
touches every figure's spread and its reference alike.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench.processes import Child
from bench.server import Server

USERS = [f"user-{number:04}" for number in range(1_000)]
READERS = 1_000
WIN_POINTS = 10
"""Points of the action ``win``, one of the samples that a fresh embedded server has."""
BUSY = 64
RATE = 100
OPEN_CONNECTIONS = 64
LOAD_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 40.0
READERS_TIMEOUT_S = 60.0
START_TIMEOUT_S = 20.0
HEAD_TIMEOUT_S = 10.0
PREPARE_S = 1.0
WARMUP_SHARE = 0.2
ACCEPTED = '"replayed":false'
PAGE = '"leaderboard":['
ECHOED = '"actionId"'

Result = dict[str, Any]


class PhaseFailed(Exception):
    """Answers were wrong, so their latencies mean nothing."""


@dataclass
class Stage:
    """Everything a phase needs."""

    server: Server
    reference_port: int
    tokens: list[tuple[str, str]]
    folder: Path
    seconds: float
    warmup_s: float
    repeat: int = 0
    accepted: int = 0
    """Submissions that the server has accepted so far; its ledger must be as long."""


def make_job(stage: Stage, method: str, path: str, expect: str, **fields: Any) -> Result:
    """A job for :mod:`bench.load`."""
    # Seeds differ between repeats but not between runs.
    common = {"seconds": stage.seconds, "warmup_s": stage.warmup_s, "seed": 1_000 + stage.repeat}
    return {"method": method, "path": path, "expect": expect, **common, **fields}


def closed(connections: int) -> Result:
    """Every connection always has a request under way."""
    return {"loop": "closed", "connections": connections}


def scheduled(rate: float) -> Result:
    """Requests leave at times fixed beforehand."""
    return {"loop": "open", "connections": OPEN_CONNECTIONS, "rate": rate}


def run_load(stage: Stage, port: int, jobs: dict[str, Result]) -> Result:
    """Run jobs together in one process. :raises PhaseFailed: if an answer was not as expected."""
    with Child("bench.load", log=stage.folder / "load.log") as load:
        load.tell({"host": stage.server.host, "port": port, "tokens": stage.tokens, "jobs": jobs})
        results: Result = load.hear(max(job["seconds"] for job in jobs.values()) + LOAD_TIMEOUT_S)
    for name, result in results.items():
        if result["job"]["path"] == "/api/scores":
            stage.accepted += result["accepted"]
        if result["wrong"]:
            raise PhaseFailed(f"{name}: {result['wrong']} wrong answers, such as {result['problems']}")
    return results


def run_posts(stage: Stage, port: int, path: str, expect: str, how: Result) -> Result:
    """One kind of POST."""
    return run_load(stage, port, {"post": make_job(stage, "POST", path, expect, **how)})


def run_gets(stage: Stage, port: int, path: str, expect: str, how: Result) -> Result:
    """One kind of GET."""
    return run_load(stage, port, {"get": make_job(stage, "GET", path, expect, **how)})


def prepare(stage: Stage) -> None:
    """Fill the board and the server's caches before anything is measured."""
    how = closed(BUSY) | {"seconds": PREPARE_S}
    run_posts(stage, stage.server.port, "/api/scores", ACCEPTED, how)


def run_streamed(stage: Stage, rate: float, extra: dict[str, Result]) -> Result:
    """Submit at a rate while READERS streams are open; what the readers received is under ``stream``."""
    with Child("bench.readers", log=stage.folder / "readers.log") as readers:
        readers.tell({"host": stage.server.host, "port": stage.server.port, "readers": READERS})
        connected = readers.hear(CONNECT_TIMEOUT_S)
        post = make_job(stage, "POST", "/api/scores", ACCEPTED, **scheduled(rate), seconds=2 * stage.seconds)
        results = run_load(stage, stage.server.port, {"post": post | {"events": True}, **extra})
        events, last_seq = results["post"].pop("events"), results["post"].pop("last_seq")
        readers.tell({"events": events, "final_seq": last_seq, "points_each": WIN_POINTS})
        received = readers.hear(READERS_TIMEOUT_S)
    return results | {"stream": received | {"connect_s": connected["seconds"]}}


def run_mixed(stage: Stage) -> Result:
    """The acceptance limit: submissions, reads and streams at once."""
    get = make_job(stage, "GET", "/api/leaderboard", PAGE, **scheduled(RATE))
    # Another seed: the two schedules are independent of each other.
    return run_streamed(stage, RATE, {"get": get | {"seconds": 2 * stage.seconds, "seed": 2_000 + stage.repeat}})


def run_scheduled_reference(stage: Stage) -> Result:
    """The bare application at the rates of the scheduled workloads."""
    post = make_job(stage, "POST", "/echo", ECHOED, **scheduled(RATE))
    get = make_job(stage, "GET", "/ready", PAGE, **scheduled(RATE))
    return run_load(stage, stage.reference_port, {"post": post, "get": get | {"seed": 2_000 + stage.repeat}})


PHASES: dict[str, Callable[[Stage], Result]] = {
    "echo-1": lambda s: run_posts(s, s.reference_port, "/echo", ECHOED, closed(1)),
    "submit-1": lambda s: run_posts(s, s.server.port, "/api/scores", ACCEPTED, closed(1)),
    "echo-64": lambda s: run_posts(s, s.reference_port, "/echo", ECHOED, closed(BUSY)),
    "submit-64": lambda s: run_posts(s, s.server.port, "/api/scores", ACCEPTED, closed(BUSY)),
    "reference-scheduled": run_scheduled_reference,
    "submit-scheduled": lambda s: run_posts(s, s.server.port, "/api/scores", ACCEPTED, scheduled(RATE)),
    "ready-64": lambda s: run_gets(s, s.reference_port, "/ready", PAGE, closed(BUSY)),
    "read-64": lambda s: run_gets(s, s.server.port, "/api/leaderboard", PAGE, closed(BUSY)),
    "stream-10": lambda s: run_streamed(s, 10, {}),
    "stream-100": lambda s: run_streamed(s, RATE, {}),
    "mixed": run_mixed,
}
WORKLOADS: dict[str, tuple[str, ...]] = {
    "submit": ("echo-1", "submit-1", "echo-64", "submit-64", "reference-scheduled", "submit-scheduled"),
    "read": ("ready-64", "read-64"),
    "stream": ("stream-10", "stream-100"),
    "mixed": ("reference-scheduled", "mixed"),
}


def choose_phases(workloads: Sequence[str]) -> list[str]:
    """The phases that the workloads need, each once."""
    return list(dict.fromkeys(phase for workload in workloads for phase in WORKLOADS[workload]))


@dataclass
class Outcome:
    """Results by repeat and phase, and what was found when the ledger was held against them."""

    repeats: list[dict[str, Result]]
    consistent: bool
    findings: str


def run_workloads(
    folder: Path, workloads: Sequence[str], *, repeats: int, seconds: float, say: Callable[[str], None]
) -> Outcome:
    """Start the server and the reference, run all phases, and check what the server kept."""
    with ExitStack() as stack:
        server = stack.enter_context(Server(folder))
        reference = stack.enter_context(Child("bench.reference", log=folder / "reference.log"))
        address = reference.wait_for_line("Listening on ", START_TIMEOUT_S)
        tokens = server.sign_tokens(USERS)
        stage = Stage(server, int(address.rpartition(":")[2]), tokens, folder, seconds, seconds * WARMUP_SHARE)
        say("filling the board")
        prepare(stage)
        results = [run_repeat(stage, number, repeats, choose_phases(workloads), say) for number in range(repeats)]
        say("verifying the ledger, the totals and the ranking")
        return Outcome(results, *check_server(stage))


def run_repeat(
    stage: Stage, number: int, repeats: int, phases: Sequence[str], say: Callable[[str], None]
) -> dict[str, Result]:
    """Run each phase once."""
    stage.repeat = number
    results: dict[str, Result] = {}
    for phase in phases:
        say(f"repeat {number + 1} of {repeats}: {phase}")
        results[phase] = PHASES[phase](stage)
    return results


def check_server(stage: Stage) -> tuple[bool, str]:
    """Whether ``scoreboard verify`` is content and the ledger is as long as what was accepted; and what they say."""
    verified = stage.server.verify()
    head = read_head(stage)
    counted = f"{stage.accepted} submissions were accepted, the ledger has {head} events"
    said = f"{verified.stdout}{verified.stderr}".strip()
    return verified.returncode == 0 and head == stage.accepted, f"{said}\n{counted}"


def read_head(stage: Stage) -> int:
    """The seq that the server's leaderboard is at."""
    connection = HTTPConnection(stage.server.host, stage.server.port, timeout=HEAD_TIMEOUT_S)
    try:
        connection.request("GET", "/api/leaderboard?limit=1")
        return int(json.loads(connection.getresponse().read())["seq"])
    finally:
        connection.close()
