"""Somebody who just uses the server while others abuse it, in a process of its own, and what that one waits for.

Each round is a submission, the first page and a look at readiness, the last on a connection of its own, as probes and
load balancers make them.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, perf_counter

from tests.harness import Server, make_token

TIMEOUT_S = 10.0
PAUSE_S = 0.01
KINDS = ("submission", "page", "ready")
FULL = os.environ.get("SCOREBOARD_TEST_ABUSE") == "full"
"""Whether each abuse goes on for as long as one who means it would, which takes minutes, with the machine to itself."""
PATIENCE = 1 if FULL else 4
"""What each bound on a wait is multiplied by: in the ordinary suite other tests run beside, on two processors maybe. A
server that an abuse stops makes others wait for seconds, or refuses them, and that is seen all the same."""


@dataclass
class Waits:
    """How long each answer took, in ms in the order asked, and what was not answered with 200."""

    ms: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    failures: list[str] = field(default_factory=list)

    def percentile(self, kind: str, share: float) -> float:
        waits = sorted(self.ms[kind])
        assert waits, f"not one {kind} was answered"
        return waits[min(len(waits) - 1, int(share * len(waits)))]

    def describe(self) -> str:
        parts = (
            f"{kind} p50 {self.percentile(kind, 0.5):.1f} p95 {self.percentile(kind, 0.95):.1f} "
            f"max {self.percentile(kind, 1):.1f} ms of {len(self.ms[kind])}"
            for kind in KINDS
            if self.ms[kind]
        )
        return "; ".join(parts) + f"; {len(self.failures)} failed"

    def check(self, *, p95_ms: float, max_ms: float) -> None:
        """Nothing failed, and nothing took longer than is bearable for whoever did nothing wrong, with PATIENCE."""
        print(self.describe())
        assert not self.failures, self.failures[:5]
        for kind in KINDS:
            assert self.percentile(kind, 0.95) <= p95_ms * PATIENCE, f"{kind}: {self.describe()}"
            assert self.percentile(kind, 1) <= max_ms * PATIENCE, f"{kind}: {self.describe()}"


@contextmanager
def bystander(server: Server, *, rounds_before: int = 20) -> Iterator[Waits]:
    """Use the server until the block ends, after some rounds to warm up, which are not counted.

    The board ``global`` needs the action ``win``. The yielded object is filled once the block has ended.
    """
    command = [sys.executable, "-m", "tests.abuse.bystander", str(server.port), make_token("bystander")]
    waits = Waits()
    with subprocess.Popen(
        [*command, str(rounds_before)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as own:
        assert own.stdin is not None and own.stdout is not None
        assert own.stdout.readline() == "warm\n", "the bystander could not use the server even before the abuse"
        try:
            yield waits
        finally:
            own.stdin.close()
            found = json.loads(own.stdout.read() or "{}")
            waits.ms.update(found.get("ms", {}))
            waits.failures += found.get("failures", ["the bystander ended early"])


def _use(port: int, token: str, rounds_before: int, is_over: Callable[[], bool]) -> Waits:
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    body, headers = b'{"actionId": "win"}', {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    waits, number = Waits(), 0

    def ask(kind: str, connection: http.client.HTTPConnection, *request: object, **more: object) -> None:
        began = perf_counter()
        try:
            connection.request(*request, **more)  # type: ignore[arg-type]
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                waits.failures.append(f"{kind}: {answer.status}")
        except (OSError, http.client.HTTPException) as exc:
            waits.failures.append(f"{kind}: {exc!r}")
            connection.close()
        waits.ms[kind].append((perf_counter() - began) * 1_000)

    while not is_over():
        began = monotonic()
        ask("submission", kept, "POST", "/api/scores", body, headers)
        ask("page", kept, "GET", "/api/leaderboard")
        probe = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        ask("ready", probe, "GET", "/readyz")
        probe.close()
        number += 1
        if number == rounds_before:
            assert not waits.failures, waits.failures
            waits = Waits()
            print("warm", flush=True)
        threading.Event().wait(max(0.0, PAUSE_S - (monotonic() - began)))
    kept.close()
    return waits


def main() -> None:
    """Use the server until standard input ends, then print what was waited for."""
    port, token, rounds_before = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    waits = _use(port, token, rounds_before, over.is_set)
    print(json.dumps({"ms": waits.ms, "failures": waits.failures[:100]}), flush=True)


if __name__ == "__main__":
    main()
