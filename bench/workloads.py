"""The workloads: phases that are run one after the other, each by processes of its own.

A repeat runs all phases in turn, rather than each phase all its repeats, so that a slow minute of the machine
touches every figure's spread and its reference alike. A phase whose tool is not installed is left out.
"""

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench import pgbench
from bench.growth import grow
from bench.limits import LevelFailed, find_limits
from bench.nchan import find_nchan
from bench.processes import Child, ChildFailed, cpu_seconds, resident_bytes
from bench.server import Server
from bench.wrk import find_wrk, run_wrk

USERS = [f"user-{number:04}" for number in range(1_000)]
WIN_POINTS = 10
"""Points of the action ``win``, one of the samples that a fresh embedded server has."""
BUSY = 64
RATE = 100
LONE_RATE = 2
"""Events a second that are so far apart that each is alone."""
OPEN_CONNECTIONS = 64
PGBENCH_CLIENTS = 20
"""As many as the embedded PostgreSQL has connections to spare; more would not make it faster on few cores."""
CEILING_BATCHES = (1, 32, 256)
BATCH_SIZE, BATCH_CLIENTS = 1_000, 2
"""Submissions of a batch, as many as one may have, and how many are under way at once: more bring 5 % more, and are
refused where the machine is slow, since they would wait too long."""
PLACES_CLIENTS, IDS = 4, 100
"""Clients that ask for places at once, and users in one question."""
LOAD_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 60.0
READERS_TIMEOUT_S = 60.0
START_TIMEOUT_S = 20.0
HEAD_TIMEOUT_S = 10.0
GROWTH = ((1_000, 100_000), (100_000, 1_000_000), (1_000_000, 10_000_000))
"""Users and events of the boards that are compared."""
JUDGED_REPEATS = 3
"""Repeats by which a goal is missed for good: a single one may have met a slow moment of the machine."""
SETTLE_S = 1.0
REST_S = 2.0
PREPARE_S = 1.0
GROWTH_PREPARE_S = 8.0
"""A page's first touch after a checkpoint puts all of it into PostgreSQL's log; most have had theirs by then."""
WARMUP_SHARE = 0.2
ACCEPTED = '"replayed":false'
PAGE = '"leaderboard":['
ECHOED = '"actionId"'
SCORES, BATCHES, BOARD = "/api/scores", "/api/scores/batch", "/api/leaderboard"
RECORDED = '"status":"recorded"'

Result = dict[str, Any]


class PhaseFailed(Exception):
    """Answers were wrong, so their latencies mean nothing."""


@dataclass
class Stage:
    """Everything a phase needs. ``readers`` and ``reads_per_s`` are how many streams and reads the phases have."""

    server: Server
    reference_port: int
    broadcast_port: int
    tokens: list[tuple[str, str]]
    folder: Path
    seconds: float
    warmup_s: float
    readers: int
    reads_per_s: int
    workers: int = 1
    """Processes of the server."""
    repeat: int = 0
    resident_bytes: int = 0
    """The server's memory before it had any reader."""
    accepted: int = 0
    """Submissions that the server has accepted so far; its ledger must be as long."""
    wrk: str | None = field(default_factory=find_wrk)
    pgbench: str | None = field(default_factory=pgbench.find_pgbench)


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
        if result["job"]["path"] in (SCORES, BATCHES) and port == stage.server.port:
            stage.accepted += result["accepted"]
        check_answers(name, result)
    return results


def check_answers(name: str, result: Result) -> None:
    """:raises PhaseFailed: if an answer was not as expected."""
    if result["wrong"]:
        raise PhaseFailed(f"{name}: {result['wrong']} wrong answers, such as {result['problems']}")


def run_posts(stage: Stage, port: int, path: str, expect: str, how: Result) -> Result:
    """One kind of POST."""
    return run_load(stage, port, {"post": make_job(stage, "POST", path, expect, **how)})


def run_batches(stage: Stage) -> Result:
    """Batches from a few trusted clients."""
    how = closed(BATCH_CLIENTS) | {"batch": BATCH_SIZE, "token": stage.server.sign_trusted_token()}
    return run_posts(stage, stage.server.port, BATCHES, RECORDED, how)


def run_gets(stage: Stage, port: int, path: str) -> Result:
    """As many GETs as there can be on BUSY connections: by wrk where it is installed."""
    if stage.wrk is None:
        return run_load(stage, port, {"get": make_job(stage, "GET", path, PAGE, **closed(BUSY))})
    result = run_wrk(
        stage.wrk, f"http://{stage.server.host}:{port}{path}", connections=BUSY, seconds=max(1.0, stage.seconds)
    )
    check_answers("get", result)
    return {"get": result}


def run_gets_without_fast_lane(stage: Stage) -> Result:
    """The same server program on the same stores, with the fast lane switched off."""
    with Server(stage.folder, beside=stage.server, workers=stage.workers, FAST_LANE="false") as plain:
        run_load(
            stage, plain.port, {"get": make_job(stage, "GET", BOARD, PAGE, **closed(BUSY)) | {"seconds": PREPARE_S}}
        )
        return run_gets(stage, plain.port, BOARD)


def run_windows(stage: Stage) -> Result:
    """Submissions to a board with one window, and with three more, on a server of its own."""
    folder = stage.folder / f"windows-{stage.repeat}"
    folder.mkdir()
    with Server(folder, workers=stage.workers) as server:
        here = replace(stage, server=server, tokens=server.sign_tokens(USERS), folder=folder, accepted=0)
        prepare(here)
        results = {"one": run_posts(here, server.port, SCORES, ACCEPTED, closed(BUSY))}
        server.put_board({"windows": ["all", "day", "week", "month"]})
        prepare(here)
        results["four"] = run_posts(here, server.port, SCORES, ACCEPTED, closed(BUSY))
        verified = server.verify()
        if verified.returncode != 0:
            raise PhaseFailed(f"a board with windows: {verified.stdout}{verified.stderr}")
    shutil.rmtree(folder)
    return results


def run_pgbench(stage: Stage) -> Result | None:
    """The usual transaction in the server's own PostgreSQL."""
    if stage.pgbench is None:
        return None
    asyncio.run(pgbench.prepare(stage.server.database_url))
    environment = {"PGHOST": str(stage.server.sockets), "PGUSER": "scoreboard"}
    return {
        f"at-{clients}": pgbench.run_pgbench(
            stage.pgbench, stage.folder, environment, clients=clients, seconds=max(1.0, stage.seconds)
        )
        for clients in (PGBENCH_CLIENTS,)
    }


def run_ceilings(stage: Stage) -> Result:
    """What the stores do alone, in a database and a Redis database of their own."""
    urls = {"postgres": stage.server.make_database("ceiling"), "redis": f"{stage.server.redis_url}?db=1"}
    results: Result = {}
    for store, url in urls.items():
        for batch in CEILING_BATCHES:
            with Child("bench.ceilings", log=stage.folder / "ceilings.log") as child:
                plan = {"store": store, "url": url, "batch": batch, "users": USERS}
                child.tell(plan | {"seconds": stage.seconds, "seed": 1_000 + stage.repeat})
                results[f"{store}-{batch}"] = child.hear(stage.seconds + LOAD_TIMEOUT_S)
    return results


def prepare(stage: Stage, seconds: float = PREPARE_S) -> None:
    """Fill the board and the server's caches before anything is measured."""
    how = closed(BUSY) | {"seconds": seconds}
    run_posts(stage, stage.server.port, SCORES, ACCEPTED, how)


def run_streamed(
    stage: Stage, rate: float, extra: dict[str, Result], *, seconds: float, ports: tuple[int, int] | None = None
) -> Result:
    """Submit at a rate while the readers' streams are open; what the readers received is under ``stream``.

    :param ports: of a reference, for submissions and for streams; None for the server.
    """
    own = ports is None
    port, stream_port = ports or (stage.server.port, stage.server.port)
    if own and not stage.resident_bytes:
        stage.resident_bytes = resident_bytes(stage.server.pids)
    with Child("bench.readers", log=stage.folder / "readers.log") as readers:
        plan = {"host": stage.server.host, "port": stream_port, "readers": stage.readers}
        readers.tell(plan | {"headers": [] if own else ["TE: chunked"]})  # nchan says each message as a chunk then
        connected = readers.hear(CONNECT_TIMEOUT_S)
        found = {"connect_s": connected["seconds"]}
        if own:
            time.sleep(SETTLE_S)
            # Held against before any reader came: memory that the ones of an earlier repeat left is used again.
            found["reader_bytes"] = (resident_bytes(stage.server.pids) - stage.resident_bytes) / stage.readers
            computed_s = cpu_seconds(stage.server.pids)
            time.sleep(REST_S)
            found["rest_cpu_share"] = (cpu_seconds(stage.server.pids) - computed_s) / REST_S
        post = make_job(stage, "POST", SCORES, ACCEPTED, **scheduled(rate), seconds=seconds)
        results = run_load(stage, port, {"post": post | {"events": True}, **extra})
        events, last_seq = results["post"].pop("events"), results["post"].pop("last_seq")
        readers.tell({"events": events, "final_seq": last_seq, "points_each": WIN_POINTS})
        received = readers.hear(READERS_TIMEOUT_S)
    return results | {"stream": received | found | {"share_converged": received["converged"] / stage.readers}}


def run_lone(stage: Stage, ports: tuple[int, int] | None = None) -> Result:
    """Events that are alone: how long one takes to reach everybody."""
    return run_streamed(stage, LONE_RATE, {}, seconds=max(4.0, 2 * stage.seconds), ports=ports)


def run_nchan(stage: Stage) -> Result | None:
    """The same by nginx with nchan."""
    if find_nchan() is None:
        return None
    with Child("bench.nchan", log=stage.folder / "nchan.log") as nchan:
        port, stream_port = map(int, nchan.wait_for_line("Listening on ", START_TIMEOUT_S).split())
        return run_lone(stage, (port, stream_port))


def run_mixed(stage: Stage, *, rate: float = RATE) -> Result:
    """Submissions, reads and streams at once."""
    seconds = 2 * stage.seconds
    get = make_job(stage, "GET", BOARD, PAGE, **scheduled(stage.reads_per_s))
    # Another seed: the two schedules are independent of each other.
    return run_streamed(stage, rate, {"get": get | {"seconds": seconds, "seed": 2_000 + stage.repeat}}, seconds=seconds)


def run_limits(stage: Stage) -> Result:
    """Each load of the mixed workload until a bound breaks."""

    def run(readers: int, rate: int, reads_per_s: int) -> Result:
        here = replace(stage, readers=readers, reads_per_s=reads_per_s)
        try:
            return run_mixed(here, rate=rate)
        except (PhaseFailed, ChildFailed) as exc:
            raise LevelFailed(str(exc).partition("\n")[0]) from exc
        finally:
            stage.accepted = here.accepted

    return find_limits(run, readers=stage.readers, rate=RATE, reads_per_s=stage.reads_per_s)


def run_scheduled_reference(stage: Stage) -> Result:
    """The bare application at the rate of the scheduled submissions."""
    return run_posts(stage, stage.reference_port, "/echo", ECHOED, scheduled(RATE))


def run_places(stage: Stage, path: str) -> Result:
    """One question about places, asked by a few at a time."""
    return run_load(stage, stage.server.port, {"get": make_job(stage, "GET", path, PAGE, **closed(PLACES_CLIENTS))})


def run_growth(stage: Stage) -> Result:
    """The same on boards of different sizes, each on a server of its own."""
    results: Result = {}
    for users, events in GROWTH:
        folder = stage.folder / f"growth-{users}-{stage.repeat}"
        folder.mkdir()
        with Server(folder, workers=stage.workers) as server:
            grown = grow(server, read_page, users=users, events=events)
            names = [f"user-{number * (users // len(USERS))}" for number in range(len(USERS))]
            here = replace(stage, server=server, tokens=server.sign_tokens(names), folder=folder, accepted=events)
            prepare(here, GROWTH_PREPARE_S)
            results[f"users-{users}"] = grown | {
                "submit-1": run_posts(here, server.port, SCORES, ACCEPTED, closed(1)),
                "submit-64": run_posts(here, server.port, SCORES, ACCEPTED, closed(BUSY)),
                "read-64": run_gets(here, server.port, BOARD),
                "around": run_places(here, f"{BOARD}/around/user-{users // 2}?radius=50"),
                "ids": run_places(here, f"{BOARD}/users?ids={','.join(names[:IDS])}"),
            }
            consistent, findings = check_server(here)
            if not consistent:
                raise PhaseFailed(f"a board of {users} users: {findings}")
        shutil.rmtree(folder)
    return results


def run_cold(stage: Stage) -> Result:
    """From the start to the first answer: on stores that run, and with embedded ones that have to be started again."""
    took = {}
    began = time.monotonic()
    with Server(stage.folder, beside=stage.server, workers=stage.workers) as server:
        read_page(server)
        took["external_s"] = time.monotonic() - began
    folder = stage.folder / f"cold-{stage.repeat}"
    folder.mkdir(exist_ok=True)
    with Server(folder, workers=stage.workers) as first:
        read_page(first)
    began = time.monotonic()
    with Server(folder, workers=stage.workers) as again:
        read_page(again)
        took["embedded_s"] = time.monotonic() - began
    return took


PHASES: dict[str, Callable[[Stage], Result | None]] = {
    "echo-1": lambda s: run_posts(s, s.reference_port, "/echo", ECHOED, closed(1)),
    "submit-1": lambda s: run_posts(s, s.server.port, SCORES, ACCEPTED, closed(1)),
    "echo-64": lambda s: run_posts(s, s.reference_port, "/echo", ECHOED, closed(BUSY)),
    "submit-64": lambda s: run_posts(s, s.server.port, SCORES, ACCEPTED, closed(BUSY)),
    "batches": run_batches,
    "pgbench": run_pgbench,
    "ceilings": run_ceilings,
    "reference-scheduled": run_scheduled_reference,
    "submit-scheduled": lambda s: run_posts(s, s.server.port, SCORES, ACCEPTED, scheduled(RATE)),
    "ready-64": lambda s: run_gets(s, s.reference_port, "/ready"),
    "bare-64": lambda s: run_gets(s, s.broadcast_port, "/ready"),
    "read-64": lambda s: run_gets(s, s.server.port, BOARD),
    "read-64-ordinary": run_gets_without_fast_lane,
    "broadcast": lambda s: run_lone(s, (s.broadcast_port, s.broadcast_port)),
    "nchan": run_nchan,
    "stream-lone": run_lone,
    "stream-10": lambda s: run_streamed(s, 10, {}, seconds=2 * s.seconds),
    "mixed": run_mixed,
    "limits": run_limits,
    "cold": run_cold,
    "growth": run_growth,
    "windows": run_windows,
}
WORKLOADS: dict[str, tuple[str, ...]] = {
    "submit": (
        "echo-1",
        "submit-1",
        "echo-64",
        "submit-64",
        "batches",
        "pgbench",
        "ceilings",
        "reference-scheduled",
        "submit-scheduled",
    ),
    "read": ("ready-64", "bare-64", "read-64", "read-64-ordinary"),
    "stream": ("broadcast", "nchan", "stream-lone", "stream-10"),
    "mixed": ("mixed",),
    "limits": ("limits",),
    "cold": ("cold",),
    "growth": ("growth",),
    "windows": ("windows",),
}
QUICK_WORKLOADS = ("submit", "read", "stream", "mixed", "cold")
"""Those that take seconds."""


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
    folder: Path,
    workloads: Sequence[str],
    *,
    repeats: int,
    seconds: float,
    readers: int,
    reads_per_s: int,
    workers: int,
    say: Callable[[str], None],
    find_missed: Callable[[Sequence[dict[str, Result]]], Sequence[str]],
) -> Outcome:
    """Start the server and the references, run all phases, and check what the server kept.

    :param find_missed: the workloads whose results so far are doubted; these are repeated up to JUDGED_REPEATS times.
    """
    with ExitStack() as stack:
        server = stack.enter_context(Server(folder, workers=workers))
        ports = []
        for module in ("bench.reference", "bench.broadcast"):
            reference = stack.enter_context(Child(module, log=folder / "reference.log"))
            ports.append(int(reference.wait_for_line("Listening on ", START_TIMEOUT_S).rpartition(":")[2]))
        tokens = server.sign_tokens(USERS)
        stage = Stage(server, *ports, tokens, folder, seconds, seconds * WARMUP_SHARE, readers, reads_per_s, workers)
        say("filling the board")
        prepare(stage)
        results: list[dict[str, Result]] = []
        for number in range(max(repeats, JUDGED_REPEATS)):
            if number >= repeats and not (workloads := find_missed(results)):
                break
            say(f"repeat {number + 1}{f' of {repeats}' if number < repeats else ', for a goal was missed'}")
            results.append(run_repeat(stage, number, choose_phases(workloads), say))
        say("verifying the ledger, the totals and the ranking")
        return Outcome(results, *check_server(stage))


def run_repeat(stage: Stage, number: int, phases: Sequence[str], say: Callable[[str], None]) -> dict[str, Result]:
    """Run each phase once."""
    stage.repeat = number
    results: dict[str, Result] = {}
    for phase in phases:
        say(phase)
        result = PHASES[phase](stage)
        if result is None:
            say(f"{phase} was left out: its tool is not installed")
        else:
            results[phase] = result
    return results


def check_server(stage: Stage) -> tuple[bool, str]:
    """Whether ``scoreboard verify`` is content and the ledger is as long as what was accepted; and what they say."""
    verified = stage.server.verify()
    head = int(read_page(stage.server)["seq"])
    counted = f"{stage.accepted} submissions were accepted, the ledger has {head} events"
    said = f"{verified.stdout}{verified.stderr}".strip()
    return verified.returncode == 0 and head == stage.accepted, f"{said}\n{counted}"


def read_page(server: Server) -> Result:
    """The server's leaderboard."""
    connection = HTTPConnection(server.host, server.port, timeout=HEAD_TIMEOUT_S)
    try:
        connection.request("GET", f"{BOARD}?limit=1")
        page: Result = json.loads(connection.getresponse().read())
        return page
    finally:
        connection.close()
