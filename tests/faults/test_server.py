"""The server killed, paused and doubled: nothing acknowledged is lost, nothing counts twice (P1, P2, P9)."""

import random
import threading

import pytest

from tests.faults.proxy import Link, Point
from tests.faults.rig import FULL, Rig

KILLS = 100 if FULL else 5
KILL_WITHIN_S = 0.3


@pytest.mark.timeout(60 + 5 * KILLS)
def test_kill_at_random_moments_loses_nothing_and_counts_nothing_twice(rig: Rig) -> None:
    chance = random.Random(7)
    server = rig.start_server()
    with rig.busy() as load:
        for _ in range(KILLS):
            load.wait_for_more(chance.randint(1, 100))
            threading.Event().wait(chance.uniform(0, KILL_WITHIN_S))  # the moment is what is random here
            server.kill()
            server.start()


@pytest.mark.parametrize("point", ["request", "torn", "sent", "answered"])
def test_kill_around_a_commit(rig: Rig, point: Point) -> None:
    server = rig.start_server()
    with rig.busy() as load:
        rig.to_postgres.at(point, lambda link: server.kill()).wait()
        server.start()
        load.wait_for_more(100)


@pytest.mark.parametrize("point", ["request", "sent", "answered"])
def test_kill_around_a_script(rig: Rig, point: Point) -> None:
    """Before the script: committed and not ranked. After it: ranked and published, and nobody was told."""
    server = rig.start_server()
    with rig.busy() as load:
        rig.to_redis.at(point, lambda link: server.kill()).wait()
        server.start()
        load.wait_for_more(100)


@pytest.mark.parametrize("point", ["torn", "answered"])
def test_server_paused_in_the_middle_of_a_batch_does_no_harm_when_it_goes_on(rig: Rig, point: Point) -> None:
    """The others close the gap that it leaves, and its own script finds everything applied."""
    paused, other = rig.start_server(), rig.start_server(direct=True)
    held: list[Link] = []

    def pause(link: Link) -> None:
        link.freeze()
        held.append(link)
        rig.pause(paused)

    with rig.busy() as load:
        rig.to_postgres.at(point, pause).wait()
        # Requests to the paused server wait; those to the other one go on, unless the board's lock is held.
        threading.Event().wait(5 if FULL else 2)
        held[0].thaw()
        rig.resume(paused)
        load.wait_for_more(100)
    assert other.metric("scoreboard_suspect_boards") == 0
