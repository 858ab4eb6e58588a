"""``scoreboard doctor``: what it finds well, what it says is to be mended, and where it could not look."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scoreboard.contracts import load_migrations
from scoreboard.digests import fingerprint
from tests.faults.clock import Clock
from tests.harness import Server, Stores
from tests.own_stores import OwnPostgres, OwnValkey

Doctor = Callable[..., tuple[int, dict[str, dict[str, str]]]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Run it: its status, and what it found by name."""

    def run(stores: Stores, **settings: str) -> tuple[int, dict[str, dict[str, str]]]:
        done = Server(stores, log=tmp_path / "doctor.log", **settings).run("doctor", "--json")
        assert "Traceback" not in done.stderr
        document = json.loads(done.stdout)
        checks = {check["check"]: check for check in document["checks"]}
        assert len(checks) == len(document["checks"])
        assert document["ok"] == (done.returncode == 0) == all(check["status"] == "ok" for check in checks.values())
        return done.returncode, checks

    return run


def to_mend(checks: dict[str, dict[str, str]]) -> set[str]:
    for check in checks.values():
        assert bool(check["mend"]) == (check["status"] == "mend"), check
    return {name for name, check in checks.items() if check["status"] == "mend"}


@pytest.fixture(scope="module")
def valkey() -> Iterator[OwnValkey]:
    with OwnValkey() as own:
        yield own


def migrated(postgres: OwnPostgres, valkey: OwnValkey, tmp_path: Path) -> Stores:
    stores = Stores(postgres.url, valkey.url)
    done = Server(stores, log=tmp_path / "log").run("migrate")
    assert done.returncode == 0, done.stderr
    return stores


def test_all_is_well_beside_a_server_and_nothing_is_changed(server: Server, stores: Stores, doctor: Doctor) -> None:
    server.submit("alice")
    with stores.redis() as redis:
        before = sorted(redis.keys())
        schema = stores.query("SELECT oid, relname FROM pg_class ORDER BY oid")
        status, checks = doctor(stores)
        assert (status, to_mend(checks)) == (0, set()), checks
        assert sorted(redis.keys()) == before
    assert stores.query("SELECT oid, relname FROM pg_class ORDER BY oid") == schema
    assert checks["PostgreSQL fsync"]["found"] == "on"
    assert checks["rankings"]["found"] == "1 board, none behind"


def test_embedded_stores_are_well_while_served_and_while_not(tmp_path: Path) -> None:
    server = Server(data_dir=tmp_path / "data", log=tmp_path / "log")
    refused = server.run("doctor")
    assert refused.returncode == 2
    assert "does not exist" in refused.stderr
    asked = server.run("doctor", "--json")
    assert asked.returncode == 2
    (check,) = json.loads(asked.stdout)["checks"]
    assert (check["status"], "does not exist" in check["found"]) == ("unknown", True)
    assert not (tmp_path / "data").exists()
    server.start()
    try:
        for _ in ("served", "not served"):
            done = server.run("doctor")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "appendonly yes" in done.stdout
            assert "scoreboard_app may read and write" in done.stdout
            assert "shared secret of 64 bytes" in done.stdout
            assert "0 to mend, 0 could not be looked at" in done.stdout.splitlines()[-1]
            server.stop()
        (tmp_path / "data" / "jwt_secret").write_text("abcd" * 10)
        weak = server.run("doctor")
        assert weak.returncode == 1
        assert "MEND     signing key" in weak.stdout
        assert "only 4 of them different" in weak.stdout
        assert "abcd" not in weak.stdout
    finally:
        server.kill()


def test_settings_that_lose_data_or_evict_are_to_be_mended(doctor: Doctor, tmp_path: Path) -> None:
    unsafe = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "12"}
    with OwnPostgres(**unsafe) as postgres, OwnValkey() as valkey, valkey.client() as client:
        stores = migrated(postgres, valkey, tmp_path)
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxclients", "20")
        status, checks = doctor(stores)
        assert status == 1
        assert to_mend(checks) == {
            "PostgreSQL fsync",
            "PostgreSQL full_page_writes",
            "PostgreSQL synchronous_commit",
            "PostgreSQL connections",
            "Redis eviction policy",
            "Redis clients",
        }
        for name in unsafe:
            if name != "max_connections":
                check = checks[f"PostgreSQL {name}"]
                assert (check["found"], f"{name} = on" in check["mend"]) == ("off", True)
        assert checks["Redis eviction policy"]["found"] == "allkeys-lru"
        assert "noeviction" in checks["Redis eviction policy"]["mend"]
        shown = Server(stores, log=tmp_path / "log").run("doctor")
        assert shown.returncode == 1
        assert "MEND     PostgreSQL fsync" in shown.stdout
        assert shown.stdout.splitlines()[-1].startswith("6 to mend, 0 could not be looked at, ")


def test_a_default_of_the_role_or_the_database_counts_too(stores: Stores, server: Server, doctor: Doctor) -> None:
    (row,) = stores.query("SELECT current_database() AS name")
    stores.query(f'ALTER DATABASE "{row["name"]}" SET synchronous_commit = off')
    status, checks = doctor(stores)
    assert (status, to_mend(checks)) == (1, {"PostgreSQL synchronous_commit"})


@pytest.mark.parametrize(("who", "seconds"), [("postgres", 3.0), ("valkey", -3.0), ("both", 3.0)])
def test_a_clock_that_is_off_is_to_be_mended(doctor: Doctor, tmp_path: Path, who: str, seconds: float) -> None:
    with Clock() as clock:
        of = {name: clock.environment if who in (name, "both") else {} for name in ("postgres", "valkey")}
        with OwnPostgres(environment=of["postgres"]) as postgres, OwnValkey(environment=of["valkey"]) as valkey:
            stores = migrated(postgres, valkey, tmp_path)
            assert doctor(stores)[0] == 0
            clock.shift(seconds)
            status, checks = doctor(stores)
    assert status == 1
    off = {"postgres": {"PostgreSQL clock"}, "valkey": {"Redis clock"}, "both": {"PostgreSQL clock", "Redis clock"}}
    assert to_mend(checks) == off[who] | (set() if who == "both" else {"clocks of both stores"})
    for name in off[who]:
        milliseconds = float(checks[name]["found"].split()[0].replace(",", ""))
        assert milliseconds == pytest.approx(3_000, abs=900)
        assert ("ahead of ours" if seconds > 0 else "behind ours") in checks[name]["found"]


def test_a_ranking_that_is_behind_or_lost_is_to_be_mended(server: Server, stores: Stores, doctor: Doctor) -> None:
    for _ in range(3):
        server.submit("alice")
    server.kill()
    with stores.redis() as redis:
        redis.hset("sb:{global}:head", "seq", 1)
        status, checks = doctor(stores)
        assert (status, to_mend(checks)) == (1, {"ranking of global"})
        assert checks["ranking of global"]["found"] == "it is at 1, 2 behind, the ledger at 3"
        assert "scoreboard rebuild --board global" in checks["ranking of global"]["mend"]
        redis.hset("sb:{global}:head", mapping={"seq": 3, "epoch": "0ther"})
        assert "another history (0ther)" in doctor(stores)[1]["ranking of global"]["found"]
        redis.flushdb()
        assert "there is none" in doctor(stores)[1]["ranking of global"]["found"]
    assert server.run("rebuild").returncode == 0
    assert doctor(stores)[0] == 0


def test_an_older_and_a_newer_schema_are_to_be_mended(stores: Stores, doctor: Doctor, tmp_path: Path) -> None:
    total = len(load_migrations())
    status, checks = doctor(stores)
    assert (status, to_mend(checks)) == (1, {"schema", "PostgreSQL role"})
    assert "sees no tables" in checks["PostgreSQL role"]["found"]
    assert checks["schema"]["found"] == f"version 0 of {total}"
    assert "scoreboard migrate" in checks["schema"]["mend"]
    assert stores.query("SELECT to_regclass('boards')") == [(None,)]
    assert Server(stores, log=tmp_path / "log").run("migrate").returncode == 0
    stores.query("INSERT INTO schema_migrations (version, name, checksum) VALUES (999, 'later', 'x')")
    status, checks = doctor(stores)
    assert (status, to_mend(checks)) == (1, {"schema"})
    assert checks["schema"]["found"] == "the database has migration 999 of a newer scoreboard"
    stores.query("INSERT INTO schema_migrations (version, name, checksum) VALUES (1000, 'last', 'x')")
    assert "migrations 999, 1000 of a newer" in doctor(stores)[1]["schema"]["found"]


def test_a_digest_key_with_which_no_server_would_start_is_to_be_mended(
    server: Server, stores: Stores, doctor: Doctor
) -> None:
    keys = "SELECT name, secret, fingerprint FROM server_keys ORDER BY name"
    configured, other = "a key of digests, long enough to be one", "another key of digests, long enough too"
    assert "kept in the database" in doctor(stores)[1]["digest key"]["found"]
    before = stores.query(keys)
    assert doctor(stores, DIGEST_KEY=other)[0] == 0  # nobody is remembered yet
    assert stores.query(keys) == before
    server.submit("alice")
    with server.client("admin", "admin") as admin:
        assert admin.post("/api/users/alice/hide").status_code == 200
        assert admin.delete("/api/users/alice").status_code == 204
    assert doctor(stores)[0] == 0
    status, checks = doctor(stores, DIGEST_KEY=other)
    assert (status, to_mend(checks)) == (1, {"digest key"})
    assert checks["digest key"]["mend"].startswith("SCOREBOARD_DIGEST_KEY: is not the key")
    stores.query(
        "UPDATE server_keys SET secret = NULL, fingerprint = $1 WHERE name = 'digest'", fingerprint(configured)
    )
    assert doctor(stores, DIGEST_KEY=configured)[1]["digest key"]["found"] == "from SCOREBOARD_DIGEST_KEY"
    status, checks = doctor(stores)
    assert (status, to_mend(checks)) == (1, {"digest key"})
    assert "SCOREBOARD_DIGEST_KEY is missing" in checks["digest key"]["mend"]
    assert configured not in str(checks)


def test_a_role_that_may_not_write_is_to_be_mended(valkey: OwnValkey, doctor: Doctor, tmp_path: Path) -> None:
    with OwnPostgres() as postgres:
        migrated(postgres, valkey, tmp_path)
        postgres.psql("CREATE ROLE reader LOGIN CONNECTION LIMIT 5")
        postgres.psql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        status, checks = doctor(Stores(f"postgresql://reader@/postgres?host={postgres.folder}", valkey.url))
        assert (status, to_mend(checks)) == (1, {"PostgreSQL role", "PostgreSQL connections"})
        assert "GRANT" in checks["PostgreSQL role"]["mend"]
        assert checks["PostgreSQL connections"]["found"].startswith("5 by the role's CONNECTION LIMIT")
        postgres.psql("ALTER SYSTEM SET default_transaction_read_only = on")
        postgres.psql("SELECT pg_reload_conf()")
        status, checks = doctor(Stores(postgres.url, valkey.url))
        assert (status, to_mend(checks)) == (1, {"PostgreSQL role"})
        assert "read-only" in checks["PostgreSQL role"]["mend"]


def test_a_redis_that_takes_no_writes_is_to_be_mended(stores: Stores, server: Server, doctor: Doctor) -> None:
    with OwnValkey() as primary, OwnValkey() as replica:
        replica.follow(primary)
        status, checks = doctor(Stores(stores.database_url, replica.url))
        assert (status, to_mend(checks)) == (1, {"Redis access"})
        assert "replica" in checks["Redis access"]["found"]
        with primary.client() as client:
            client.set("much", b"x" * 3_000_000)
            client.config_set("maxmemory", "3mb")
            status, checks = doctor(Stores(stores.database_url, primary.url))
            assert (status, to_mend(checks)) == (1, {"Redis access", "Redis memory"})
            assert "maxmemory" in checks["Redis access"]["found"]
            client.config_set("maxmemory", "0")
            client.acl_setuser("pinned", enabled=True, nopass=True, commands=["+@all", "-publish"], keys=["sb:*"])
            status, checks = doctor(Stores(stores.database_url, f"unix://pinned:x@{primary.socket}"))
            assert (status, to_mend(checks)) == (1, {"Redis access"})
            assert "publish" in checks["Redis access"]["found"]


def test_what_could_not_be_looked_at_is_status_2_and_the_rest_is_told(
    stores: Stores, server: Server, doctor: Doctor
) -> None:
    nobody = Stores("postgresql://u:hunter2@127.0.0.1:1/x", "redis://:hunter2@127.0.0.1:1/0")
    status, checks = doctor(Stores(stores.database_url, nobody.redis_url))
    assert (status, checks["Redis"]["status"]) == (2, "unknown")
    assert "127.0.0.1:1 can't be reached" in checks["Redis"]["found"]
    assert checks["PostgreSQL fsync"]["status"] == "ok"
    status, checks = doctor(Stores(nobody.database_url, stores.redis_url))
    assert (status, checks["PostgreSQL"]["status"]) == (2, "unknown")
    assert checks["Redis access"]["status"] == "ok"
    status, checks = doctor(nobody)
    assert status == 2
    assert "hunter2" not in json.dumps(checks)
    shown = Server(nobody, log=Path("/dev/null")).run("doctor")
    assert shown.returncode == 2
    assert "UNKNOWN  PostgreSQL" in shown.stdout


def test_limits_and_keys_that_are_too_small_are_to_be_mended(stores: Stores, server: Server, doctor: Doctor) -> None:
    status, checks = doctor(stores, STREAMS_MAX="1000000")
    assert (status, to_mend(checks)) == (1, {"open files"})
    assert "ulimit -Hn" in checks["open files"]["mend"]
    status, checks = doctor(stores, WORKERS="64")
    assert (status, to_mend(checks)) == (1, {"PostgreSQL connections"})
    status, checks = doctor(stores, JWT_ALGORITHMS="HS512", JWT_SECRET="abcdefghijklmnopqrstuvwxyz0123456789-=+*")
    assert (status, to_mend(checks)) == (1, {"signing key"})
    assert "64 random bytes" in checks["signing key"]["mend"]
