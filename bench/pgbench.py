"""pgbench, where it is installed: what PostgreSQL alone does with the usual transaction of a scoreboard.

Begin, lock the player's row, read the action, write the new score, append an event, commit: one client, one
transaction, five round trips. No HTTP, no ranking, nobody told. It runs on the server's own embedded PostgreSQL, as
durable as the server's transactions are.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

USERS = 1_000
TIMEOUT_SPARE_S = 30.0
SCHEMA = f"""
CREATE SCHEMA IF NOT EXISTS reference;
CREATE TABLE IF NOT EXISTS reference.players (id integer PRIMARY KEY, score bigint NOT NULL) WITH (fillfactor = 80);
CREATE TABLE IF NOT EXISTS reference.actions (id integer PRIMARY KEY, points integer NOT NULL);
CREATE TABLE IF NOT EXISTS reference.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    player_id integer NOT NULL,
    action_id integer NOT NULL,
    points integer NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO reference.players SELECT n, 0 FROM generate_series(1, {USERS}) n ON CONFLICT DO NOTHING;
INSERT INTO reference.actions VALUES (1, 10) ON CONFLICT DO NOTHING;
"""
TRANSACTION = rf"""
\set player random(1, {USERS})
BEGIN;
SELECT score FROM reference.players WHERE id = :player FOR UPDATE;
SELECT points FROM reference.actions WHERE id = 1;
UPDATE reference.players SET score = score + 10 WHERE id = :player;
INSERT INTO reference.events (player_id, action_id, points) VALUES (:player, 1, 10);
COMMIT;
"""


class PgbenchFailed(Exception):
    """pgbench ended with an error, or said something else than usual."""


def find_pgbench() -> str | None:
    """The program, or None where it is not installed. Debian keeps it beside the server, off the path."""
    beside = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return shutil.which("pgbench") or (str(beside[-1]) if beside else None)


async def prepare(database_url: str) -> None:
    """Make the tables of the reference, in a schema of their own."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(SCHEMA)
    finally:
        await connection.close()


def run_pgbench(
    program: str, folder: Path, environment: Mapping[str, str], *, clients: int, seconds: float
) -> dict[str, Any]:
    """Transactions a second and their mean latency.

    :param environment: PGHOST and PGUSER.
    :raises PgbenchFailed: if it could not.
    """
    script = folder / "transaction.sql"
    script.write_text(TRANSACTION)
    command = [program, "-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(max(1, round(seconds)))]
    run = subprocess.run(
        [*command, "-f", str(script), "postgres"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=seconds + TIMEOUT_SPARE_S,
    )
    rate = re.search(r"^tps = ([0-9.]+)", run.stdout, re.MULTILINE)
    latency = re.search(r"latency average = ([0-9.]+) ms", run.stdout)
    if run.returncode != 0 or rate is None or latency is None:
        raise PgbenchFailed(f"pgbench exited with {run.returncode}: {run.stderr[-500:] or run.stdout[-500:]}")
    return {"per_s": float(rate[1]), "latency_ms": {"mean": float(latency[1])}, "wrong": 0}
