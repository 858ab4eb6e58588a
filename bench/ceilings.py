"""What each store does alone: ``python -m bench.ceilings``, a plan as one JSON line in, figures as one JSON line out.

``postgres`` calls the function that records a batch, ``redis`` the script that ranks and publishes one, each as the
server does, on one connection, one batch after the other, with nothing around them. No server can be faster than
that with the same statements; how near it comes is what its own work costs.
"""

import hashlib
import json
import os
import random
import sys
from time import monotonic
from typing import Any

import asyncpg
import uvloop
from redis.asyncio import Redis

from bench.figures import summarise_ms
from bench.processes import ROOT

CALL = """
SELECT ord, outcome, epoch, seq, points, score, at, retry_after_s, quota, window_s, previous_at
FROM submit_scores($1, $2, $3, $4)
"""
ADD_ACTION = "INSERT INTO actions (board_id, action_id, points) VALUES ('global', 'win', 10) ON CONFLICT DO NOTHING"
AT = "2026-01-01T00:00:00.000Z"
EPOCH = "ceiling0"
HEAD, CHANNEL = "sb:{global}:head", "sb:{global}:events"
KEYS = (HEAD, "sb:{global}:names", "sb:{global}:all", "sb:{global}:all:ties")
SCRIPTS = ("shared", "apply_events")
"""The script, after what it shares with others."""


async def run_postgres(plan: dict[str, Any]) -> list[float]:
    """Seconds of each batch in a database that nobody else uses."""
    connection = await asyncpg.connect(plan["url"], server_settings={"jit": "off"})
    pick = random.Random(plan["seed"]).choice
    took = []
    try:
        await connection.execute(ADD_ACTION)
        call = await connection.prepare(CALL)
        ends = monotonic() + plan["seconds"]
        while monotonic() < ends:
            users = [pick(plan["users"]) for _ in range(plan["batch"])]
            keys = [os.urandom(16).hex() for _ in users]
            began = monotonic()
            rows = await call.fetch("global", users, ["win"] * len(users), keys)
            took.append(monotonic() - began)
            assert all(row["outcome"] == "recorded" for row in rows), rows[0]
    finally:
        await connection.close()
    return took


async def run_redis(plan: dict[str, Any]) -> list[float]:
    """Seconds of each batch in a Redis database that nobody else uses."""
    text = "".join((ROOT / f"scoreboard/lua/{name}.lua").read_text(encoding="utf-8") for name in SCRIPTS)
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    pick = random.Random(plan["seed"]).choice
    client = Redis.from_url(plan["url"], driver_info=None)
    took: list[float] = []
    seq = 0
    try:
        await client.flushdb()
        await client.script_load(text)
        await client.hset(HEAD, mapping={"epoch": EPOCH, "seq": 0, "at": "", "size": 0, "ties": "shared", "names": 0})
        ends = monotonic() + plan["seconds"]
        while monotonic() < ends:
            arguments: list[str] = [CHANNEL, EPOCH, str(seq + 1), AT if seq else "", str(plan["batch"]), "0", "0"]
            for _ in range(plan["batch"]):
                seq += 1
                event = {
                    "userId": pick(plan["users"]),
                    "actionId": "win",
                    "points": 10,
                    "score": seq,
                    "seq": seq,
                    "at": AT,
                }
                arguments += (str(event["userId"]), json.dumps(event, separators=(",", ":"))[:-1], str(-seq))
            began = monotonic()
            status, *_ = await client.execute_command("EVALSHA", sha, len(KEYS), *KEYS, *arguments)
            took.append(monotonic() - began)
            assert status == b"applied", status
    finally:
        await client.aclose()
    return took


async def main() -> None:
    """Run one plan."""
    plan = json.loads(sys.stdin.readline())
    took = await (run_postgres if plan["store"] == "postgres" else run_redis)(plan)
    per_s = len(took) * plan["batch"] / sum(took)
    print(json.dumps({"batch": plan["batch"], "per_s": round(per_s, 1), "latency_ms": summarise_ms(took)}), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
