"""The bystander itself: it must notice a server that stands still, or no test of abuse could fail."""

import os
import signal
from threading import Event

import pytest

from tests.abuse.bystander import PATIENCE, bystander
from tests.harness import Server

STILL_S = 0.5


def test_bystander_notices_a_server_that_stands_still(server: Server) -> None:
    assert server.process is not None
    with bystander(server) as waits:
        os.kill(server.process.pid, signal.SIGSTOP)
        Event().wait(STILL_S)
        os.kill(server.process.pid, signal.SIGCONT)
        Event().wait(STILL_S)
    assert max(waits.percentile(kind, 1) for kind in waits.ms) >= STILL_S * 1_000 * 0.9
    with pytest.raises(AssertionError):
        waits.check(p95_ms=1_000, max_ms=STILL_S * 1_000 * 0.5 / PATIENCE)


def test_bystander_waits_for_little_when_nobody_abuses(server: Server) -> None:
    with bystander(server) as waits:
        Event().wait(STILL_S)
    waits.check(p95_ms=100, max_ms=400)
