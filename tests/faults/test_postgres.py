"""PostgreSQL cut off, killed, paused, full, failed over, restored: P1 to P3 hold, P6 says what clients see."""

import asyncio
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.faults.proxy import Point
from tests.faults.rig import FULL, Rig
from tests.harness import Server, Stores, wait_until
from tests.own_stores import OwnPostgres

TIMES = 20 if FULL else 3
PAUSE_S = 10 if FULL else 6.5
"""Longer than a statement may take."""
CLEAR_WITHIN_S = 8.0
"""A submission that was under way when PostgreSQL fell silent is answered within this."""
DISK_BYTES = 96 * 1024 * 1024


@pytest.mark.parametrize("point", ["request", "torn", "sent", "answered"])
def test_connection_cut_around_a_commit(rig: Rig, point: Point) -> None:
    """The outcome is unknown to the server, so it says 503, and the repeat with the key finds what happened."""
    rig.start_server()
    with rig.busy() as load:
        for _ in range(TIMES):
            rig.to_postgres.at(point, lambda link: link.abort()).wait()
            load.wait_for_more(20)
    assert any(attempt.status == 503 for attempt in load.attempts)


def test_answer_that_never_comes_is_given_up(rig: Rig) -> None:
    """A link that died without a word, in the middle of a transaction that holds the board's lock."""
    rig.start_server()
    other = rig.start_server(direct=True)
    with rig.busy() as load:
        rig.to_postgres.at("torn", lambda link: link.freeze()).wait()
        rig.wait_for_probe(other, within_s=15)
        load.wait_for_more(100)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_under_load(rig: Rig, end: str) -> None:
    server = rig.start_server()
    with rig.busy() as load:
        for _ in range(TIMES):
            getattr(rig.postgres, end)()
            refused = rig.probe(server)
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert int(refused.headers["Retry-After"]) >= 1
            rig.postgres.start()
            load.wait_for_more(20)


def test_without_postgres_pages_and_streams_go_on(rig: Rig) -> None:
    server = rig.start_server()
    with rig.busy(moderated=False) as load, server.client() as client:
        load.finish()
        before = client.get("/api/leaderboard").json()
        rig.postgres.kill()
        for _ in range(5):
            assert client.get("/api/leaderboard").json() == before
        assert client.get("/readyz").status_code == 503
        with rig.follow() as late:
            assert late.scores == {entry["userId"]: entry["score"] for entry in before["leaderboard"]}
        rig.postgres.start()
        wait_until(lambda: client.get("/readyz").status_code == 200, what="readiness")


def test_paused_postgres_is_answered_for_with_503_in_bounded_time(rig: Rig) -> None:
    server = rig.start_server()
    with rig.busy(moderated=False) as load, server.client() as client:
        with rig.postgres.paused():
            threading.Event().wait(PAUSE_S)  # how long it hangs is the fault itself
            assert client.get("/api/leaderboard").status_code == 200
        load.wait_for_more(50)
    assert max(attempt.answered_at - attempt.sent_at for attempt in load.attempts) < CLEAR_WITHIN_S
    assert any(attempt.status == 503 for attempt in load.attempts)


def test_connections_exhausted(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(postgres=OwnPostgres(max_connections="20", superuser_reserved_connections="0"))
    server = rig.start_server()

    async def occupy() -> list[asyncpg.Connection]:
        taken = []
        rig.to_postgres.point_to("postgresql://127.0.0.1:1/none")
        for link in list(rig.to_postgres._links):
            link.abort()
        for _ in range(200):
            try:
                taken.append(await asyncpg.connect(rig.postgres.url))
            except asyncpg.TooManyConnectionsError:
                if len(taken) >= 20:
                    break
                await asyncio.sleep(0.05)
        rig.to_postgres.point_to(rig.postgres.url)
        return taken

    with rig.busy() as load:
        taken = rig.background.run(occupy())
        assert rig.probe(server).status_code == 503
        for connection in taken:
            rig.background.run(connection.close())
        rig.wait_for_probe(server)
        load.wait_for_more(50)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of DISK_BYTES."""
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def test_disk_full(make_rig: Callable[..., Rig], small_disk: Path) -> None:
    """Whatever PostgreSQL makes of it (an error, or a panic and recovery): nothing acknowledged is lost."""
    rig = make_rig(postgres=OwnPostgres(disk=small_disk, max_wal_size="32MB", min_wal_size="32MB"))
    server = rig.start_server()
    filler = small_disk / "filler"
    with rig.busy() as load:
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(b"\0" * 65_536)
                    file.flush()
            except OSError:
                pass  # full
        rig.wait_for_probe(server, 503, within_s=20)
        filler.unlink()
        if not rig.postgres.alive or not rig.postgres.answers():
            rig.postgres.kill()
            rig.postgres.start()
        rig.wait_for_probe(server)
        load.wait_for_more(50)


def test_failover_to_a_standby_loses_nothing(rig: Rig) -> None:
    """Every commit waits for the standby, so that its promotion loses nothing; until then it refuses to write."""
    server = rig.start_server()
    standby = rig.postgres.make_standby()
    try:
        with rig.busy() as load:
            rig.to_postgres.point_to(standby.url)
            rig.postgres.kill()
            rig.wait_for_probe(server, 503)
            standby.promote()
            rig.wait_for_probe(server)
            load.wait_for_more(50)
            rig.stores = Stores(standby.url, rig.stores.redis_url)
    finally:
        standby.end()


def test_read_only_database_is_left_for_the_one_that_is_not(rig: Rig) -> None:
    """The old primary lives on as a standby: connections to it are given up, new ones find the new one."""
    server = rig.start_server()
    with rig.busy() as load:
        rig.postgres.psql("ALTER SYSTEM SET default_transaction_read_only = on")
        rig.postgres.psql("SELECT pg_reload_conf()")
        assert rig.wait_for_probe(server, 503).json()["code"] == "unavailable"
        rig.postgres.psql("ALTER SYSTEM RESET default_transaction_read_only")
        rig.postgres.psql("SELECT pg_reload_conf()")
        rig.wait_for_probe(server)
        load.wait_for_more(50)


def test_deadlocks_are_tried_again(rig: Rig) -> None:
    """Somebody's transaction takes a total first and the board after it: one of the two has to lose."""
    server = rig.start_server()
    rig.postgres.psql("ALTER SYSTEM SET deadlock_timeout = '500ms'")
    rig.postgres.psql("SELECT pg_reload_conf()")

    async def cross() -> bool:
        connection = await asyncpg.connect(rig.postgres.url)
        try:
            async with connection.transaction():
                # It wants to win: the server finds the deadlock first.
                await connection.execute("SET LOCAL deadlock_timeout = '10s'")
                await connection.execute("SELECT FROM totals WHERE user_id = 'user-1' FOR UPDATE")
                await asyncio.sleep(0.2)  # the server's batch comes to wait for the total
                await connection.execute("SELECT FROM boards WHERE board_id = 'global' FOR UPDATE")
            return True
        except asyncpg.DeadlockDetectedError:
            return False
        finally:
            await connection.close()

    with rig.busy() as load:
        load.wait_for_more(50)
        assert all([rig.background.run(cross()) for _ in range(TIMES)])  # noqa: C419 - each is to be tried
        load.wait_for_more(50)
    assert server.metric("scoreboard_rolled_back_total") >= 1


def raise_error(rig: Rig, code: str, condition: str) -> None:
    """Make PostgreSQL raise an error while it appends an event."""
    rig.postgres.psql(
        f"""
        CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {condition} THEN
                RAISE EXCEPTION 'made by the test' USING ERRCODE = '{code}';
            END IF;
            RETURN NEW;
        END $$;
        CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION fail()
        """
    )


def test_serialization_errors_are_tried_again(rig: Rig) -> None:
    server = rig.start_server()
    with rig.busy() as load:
        raise_error(rig, "40001", "random() < 0.02")
        load.wait_for_more(200)
        rig.postgres.psql("DROP TRIGGER fail ON ledger")
    assert server.metric("scoreboard_rolled_back_total") >= 1


def test_poison_in_a_batch_fails_alone(rig: Rig) -> None:
    """An error that only one submission causes is that submission's; who shares its batch does not notice."""
    server = rig.start_server()
    raise_error(rig, "P0001", "NEW.user_id = 'poison'")
    with rig.busy() as load:
        for number in range(TIMES):
            poisoned = server.submit("poison", key=f"poison-{number}")
            assert (poisoned.status_code, poisoned.json()["code"]) == (503, "unavailable")
            load.wait_for_more(50)
    assert {attempt.status for attempt in load.attempts} <= {200, 422}


def restore(rig: Rig, backup: Path) -> None:
    """Put the database back to what it was, while servers, Redis and readers go on."""
    rig.to_postgres.cut()
    rig.postgres.stop()
    rig.postgres.put_data(backup)
    rig.postgres.start()
    rig.to_postgres.restore()


@pytest.mark.parametrize("lost", [3, 300])
@pytest.mark.parametrize("redis", ["kept", "lost"])
def test_restored_backup_is_a_new_epoch_and_one_reset(rig: Rig, lost: int, redis: str) -> None:
    """New events come at seqs that the ranking and the readers know already, within milliseconds when few were lost.

    With the ranking lost too, only the servers' own memory can tell.
    """
    server = rig.start_server()
    with rig.follow() as follower, rig.load(seed=1) as kept:
        kept.finish()
        epoch = follower.epoch
        rig.postgres.stop()
        backup = rig.postgres.copy_data()
        rig.postgres.start()
        with rig.load(seed=2, clients=min(lost, 64)) as gone:
            wait_until(lambda: len({a.key for a in gone.attempts}) >= lost, what="events to be lost")
            gone.finish()
        follower.wait_for(lambda f: f.scores == shown_scores(server))
        restore(rig, backup)
        if redis == "lost":
            with rig.valkey.client() as client:
                client.flushall()
        with rig.load(seed=3) as after:
            after.wait_for_more(500)
            after.finish()
            rig.judge(kept, after, followers=[follower], resets=1)
            assert follower.epoch != epoch


def shown_scores(server: Server) -> dict[str, int]:
    with server.client() as client:
        return {e["userId"]: e["score"] for e in client.get("/api/leaderboard").json()["leaderboard"]}
