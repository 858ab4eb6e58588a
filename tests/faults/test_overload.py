"""Ten times more than it can carry: refusals at once, flat memory, and everything well again soon after (P8)."""

import asyncio
from collections import Counter
from time import monotonic

import psutil

from tests.faults.http import Answer, Connection
from tests.faults.rig import FULL, Rig
from tests.harness import make_token, wait_until

BATCH_S = 0.8
"""PostgreSQL is made slow, so that what the server can carry is known, and small: 256 submissions in this time."""
CARRIED_PER_S = 256 / BATCH_S
LASTS_S = 20.0 if FULL else 4.0
REFUSED_WITHIN_S = 1.0
SLACK_S = 1.0
"""The load is made by the same two cores."""
RECOVERS_WITHIN_S = 5.0
MEMORY_GROWTH_BYTES = 64 * 1024 * 1024
CONNECTIONS_MAX = 6_000


class Storm:
    """Submissions at fixed times, whether the ones before are answered or not."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: list[Connection] = []
        self._opened = 0
        self._headers = {"Authorization": f"Bearer {make_token('game', 'scores:any')}"}
        self.answers: list[tuple[float, Answer]] = []
        self.failures: list[str] = []

    async def blow(self, per_s: float, lasts_s: float) -> None:
        loop, tasks = asyncio.get_running_loop(), set()
        began = loop.time()
        for number in range(int(per_s * lasts_s)):
            due_at = began + number / per_s
            if due_at > loop.time():
                await asyncio.sleep(due_at - loop.time())
            task = asyncio.ensure_future(self._submit(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.wait(tasks)
        for connection in self._free:
            connection.close()

    async def _submit(self, number: int) -> None:
        assert self._opened < CONNECTIONS_MAX, "requests are not answered"
        if not self._free:
            self._opened += 1
        connection = self._free.pop() if self._free else Connection(self._url)
        began = monotonic()
        try:
            answer = await connection.request(
                "POST", "/api/scores", headers=self._headers, body={"actionId": "win", "userId": f"user-{number % 8}"}
            )
        except (OSError, EOFError, TimeoutError) as exc:
            self.failures.append(repr(exc))
            return
        self.answers.append((monotonic() - began, answer))
        self._free.append(connection)


def test_ten_times_what_it_carries(rig: Rig) -> None:
    server = rig.start_server()
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    storm = Storm(server.url)
    rig.background.run(storm.blow(50, 1))
    before = process.memory_info().rss
    rig.to_postgres.delay_s = (BATCH_S, BATCH_S)
    storm = Storm(server.url)
    rig.background.run(storm.blow(10 * CARRIED_PER_S, LASTS_S), within_s=LASTS_S + 60)
    ended = monotonic()
    wait_until(lambda: server.metric("scoreboard_queue_submissions") == 0, RECOVERS_WITHIN_S, "an empty queue")
    while True:
        began = monotonic()
        assert rig.probe(server).status_code == 200
        if monotonic() - began < 2 * BATCH_S:
            break
        assert monotonic() - ended < RECOVERS_WITHIN_S
    grown = process.memory_info().rss - before

    statuses = Counter(answer.status for _, answer in storm.answers)
    refused = [(took, answer) for took, answer in storm.answers if answer.status == 503]
    slowest = max(took for took, _ in refused)
    print(f"{statuses}, slowest refusal {slowest:.2f} s, memory +{grown / 2**20:.1f} MiB")
    assert not storm.failures, storm.failures[:3]
    assert statuses.keys() == {200, 503}
    assert statuses[200] >= 0.5 * CARRIED_PER_S * LASTS_S, "what can be carried still is"
    assert slowest < REFUSED_WITHIN_S + SLACK_S
    assert {answer.json()["code"] for _, answer in refused} == {"overloaded"}
    assert all(int(answer.headers["retry-after"]) >= 1 for _, answer in refused)
    assert grown < MEMORY_GROWTH_BYTES
    rig.to_postgres.delay_s = (0, 0)
    events = rig.stores.query("SELECT count(*) FROM ledger WHERE user_id <> 'game'")[0][0]
    assert events == statuses[200] + 50, "what was refused is not recorded"
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout


def test_reads_that_need_a_silent_database_are_refused_soon(rig: Rig) -> None:
    server = rig.start_server()
    rig.probe(server)

    async def read_all() -> list[tuple[float, int]]:
        async def read(number: int) -> tuple[float, int]:
            connection = Connection(server.url)
            began = monotonic()
            try:
                answer = await connection.request("GET", f"/api/users/user-{number}/stats")
            finally:
                connection.close()
            return monotonic() - began, answer.status

        return await asyncio.gather(*(read(number) for number in range(200)))

    with rig.postgres.paused():
        answers = rig.background.run(read_all())
        waiting = sorted(took for took, _ in answers)
        assert {status for _, status in answers} == {503}
        # Those that hold a connection wait for the statement's deadline; the others only for a connection.
        assert waiting[len(waiting) * 9 // 10] < REFUSED_WITHIN_S + SLACK_S
    wait_until(lambda: rig.probe(server).status_code == 200, what="PostgreSQL again")
