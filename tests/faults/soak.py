"""Random faults for as long as you like: ``tox -e soak -- --seconds 600 --seed 7``.

Every round has a board of its own, two servers under load with readers, a few faults drawn from the seed, and the
verdict. The seed decides which faults come in which order and after how many acknowledgements, so that a failing
one can be tried again; what the clients do in between is up to the machine. A violation ends the run with exit code
1, the round's journal (every request and answer) and the servers' logs in the folder that is named.
"""

import argparse
import random
import secrets
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from tests.faults.load import Load
from tests.faults.rig import Rig
from tests.harness import Server, wait_until

SERVERS = 2
CLIENTS = 32
FAULTS_PER_ROUND = (2, 6)
ACKNOWLEDGED_BEFORE = (1, 150)
"""Acknowledgements between two faults."""
PAUSE_S = (0.1, 4.0)
RESTORED_SHARE = 0.2
"""Rounds that begin with a database restored from backup."""
HEALS_WITHIN_S = 20.0
"""From the end of a fault to ranks in the answers of every server; a crash recovery of PostgreSQL is in it."""

Fault = Callable[[Rig, random.Random], None]


def kill_server(rig: Rig, chance: random.Random) -> None:
    server = chance.choice(rig.servers)
    server.kill()
    server.start()


def end_server(rig: Rig, chance: random.Random) -> None:
    server = chance.choice(rig.servers)
    assert server.stop() == 0
    server.start()


def pause_server(rig: Rig, chance: random.Random) -> None:
    server = chance.choice(rig.servers)
    rig.pause(server)
    pause(chance)
    rig.resume(server)


def cut_at_commit(rig: Rig, chance: random.Random) -> None:
    rig.to_postgres.at(chance.choice(["request", "torn", "sent", "answered"]), lambda link: link.abort()).wait()


def kill_at_commit(rig: Rig, chance: random.Random) -> None:
    server = chance.choice(rig.servers)
    rig.to_postgres.at(chance.choice(["request", "torn", "sent", "answered"]), lambda link: server.kill()).wait()
    server.kill()
    server.start()


def cut_at_script(rig: Rig, chance: random.Random) -> None:
    rig.to_redis.at(chance.choice(["request", "sent", "answered"]), lambda link: link.abort()).wait()


def cut_links(rig: Rig, chance: random.Random) -> None:
    proxy = chance.choice([rig.to_postgres, rig.to_redis])
    proxy.cut()
    pause(chance)
    proxy.restore()


def drop_everything(rig: Rig, chance: random.Random) -> None:
    proxy = chance.choice([rig.to_postgres, rig.to_redis])
    proxy.black_hole()
    pause(chance)
    proxy.restore()


def restart_postgres(rig: Rig, chance: random.Random) -> None:
    chance.choice([rig.postgres.stop, rig.postgres.kill])()
    rig.postgres.start()


def pause_store(rig: Rig, chance: random.Random) -> None:
    with chance.choice([rig.postgres, rig.valkey]).paused():
        pause(chance)


def restart_redis(rig: Rig, chance: random.Random) -> None:
    snapshot = rig.valkey.take_snapshot() if chance.random() < 0.5 else None
    rig.valkey.stop()
    pause(chance)
    if snapshot is None:
        rig.valkey.start()
    else:
        rig.valkey.start_from(snapshot)


def lose_ranking(rig: Rig, chance: random.Random) -> None:
    with rig.valkey.client() as client:
        keys = client.keys("sb:{round*")
        chance.choice([client.flushall, client.script_flush, lambda: [client.delete(key) for key in keys[:1]]])()


def fill_redis(rig: Rig, chance: random.Random) -> None:
    with rig.valkey.client() as client:
        client.config_set("maxmemory", 1)
        pause(chance)
        client.config_set("maxmemory", 0)


def mute_subscriptions(rig: Rig, chance: random.Random) -> None:
    rig.to_redis.mute_subscriptions()


FAULTS: list[Fault] = [
    kill_server,
    end_server,
    pause_server,
    cut_at_commit,
    kill_at_commit,
    cut_at_script,
    cut_links,
    drop_everything,
    restart_postgres,
    pause_store,
    restart_redis,
    lose_ranking,
    fill_redis,
    mute_subscriptions,
]


def pause(chance: random.Random) -> None:
    """How long a fault lasts is part of it."""
    threading.Event().wait(chance.uniform(*PAUSE_S))


class Soak:
    """The whole run, and its figures."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = random.Random(seed)
        self.rig = Rig(folder)
        self.faults: Counter[str] = Counter()
        self.rounds = self.acknowledged = self.recorded = 0
        self.longest_repair_s = 0.0

    def play_round(self) -> None:
        self.rounds += 1
        board = f"round-{self.rounds}"
        self.rig.make_board(board)
        self.rig.loads.clear()
        with self.rig.follow(board=board) as follower:
            kept = [self._restore_backup(board)] if self.chance.random() < RESTORED_SHARE else []
            load = self.rig.load(board=board, clients=CLIENTS, seed=10 * self.rounds)
            with load, self.rig.moderate(load.users[0]) as moderator:
                for _ in range(self.chance.randint(*FAULTS_PER_ROUND)):
                    load.wait_for_more(self.chance.randint(*ACKNOWLEDGED_BEFORE), within_s=HEALS_WITHIN_S)
                    self._inject(self.chance.choice(FAULTS), load)
                moderator.finish()
                self.rig.judge(load, *kept, followers=[follower], resets=len(kept))
        self.acknowledged += sum(each.acknowledged for each in (load, *kept))
        self.recorded += self.rig.stores.query("SELECT seq FROM boards WHERE board_id = $1", board)[0][0]

    def _inject(self, fault: Fault, load: Load) -> None:
        print(f"round {self.rounds}: {fault.__name__} after {load.acknowledged} acknowledgements", flush=True)
        self.faults[fault.__name__] += 1
        fault(self.rig, self.chance)
        began = monotonic()
        for server in self.rig.servers:
            wait_until(lambda server=server: self._ranks(server, load.board), HEALS_WITHIN_S, "ranks after the fault")
        self.longest_repair_s = max(self.longest_repair_s, monotonic() - began)

    def _ranks(self, server: Server, board: str) -> bool:
        """Whether a server answers and trusts the ranking; asked without leaving an event behind."""
        with server.client() as client:
            stats = client.get("/readyz").json()
        return stats["status"] == "ready" and server.metric("scoreboard_suspect_boards") == 0

    def _restore_backup(self, board: str) -> Load:
        """Lose what came after a backup; what came before it is returned."""
        print(f"round {self.rounds}: restore_backup", flush=True)
        self.faults["restore_backup"] += 1
        rig = self.rig
        with rig.load(board=board, clients=CLIENTS, seed=10 * self.rounds + 1) as first:
            first.finish()
        rig.postgres.stop()
        backup = rig.postgres.copy_data()
        rig.postgres.start()
        with rig.load(board=board, clients=CLIENTS, seed=10 * self.rounds + 2) as lost:
            lost.wait_for_more(20)
        rig.to_postgres.cut()
        rig.postgres.stop()
        rig.postgres.put_data(backup)
        rig.postgres.start()
        rig.to_postgres.restore()
        return first

    def report(self) -> str:
        return (
            f"{self.rounds} rounds, {self.faults.total()} faults injected: {dict(self.faults.most_common())}\n"
            f"{self.acknowledged} acknowledged answers, {self.recorded} events recorded, "
            f"longest repair {self.longest_repair_s:.2f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="begin no round after this (120)")
    parser.add_argument("--seed", type=int, default=None, help="what decides the faults (a random one)")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else secrets.randbelow(10**6)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {seed}, journal and logs in {folder}", flush=True)
    soak = Soak(seed, folder)
    violations = 0
    try:
        for _ in range(SERVERS):
            soak.rig.start_server()
        began = monotonic()
        while monotonic() - began < options.seconds:
            soak.play_round()
    except Exception:  # whatever does not come true in time is one too
        violations += 1
        print(f"VIOLATION in round {soak.rounds}:\n{traceback.format_exc()}", file=sys.stderr)
    finally:
        soak.rig.close()
        print(f"{soak.report()}, {violations} violations; seed {seed}", flush=True)
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
