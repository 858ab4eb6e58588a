"""A board of a test's own, and what is asked of it."""

import itertools
from dataclasses import dataclass
from datetime import datetime

import httpx

from tests.harness import Server, Stores, make_token

_numbers = itertools.count(1)
BOUNDS = {"min": -(10**6), "max": 10**6}


@dataclass
class TestBoard:
    """A board on which a trusted server says what the action ``free`` is worth."""

    __test__ = False
    name: str
    server: Server
    client: httpx.Client

    def put(self, **settings: object) -> httpx.Response:
        answer = self.client.put(f"/api/boards/{self.name}", json=settings)
        assert answer.status_code in (200, 201), answer.text
        return answer

    def score(self, user: str, points: int) -> dict[str, object]:
        body = {"board": self.name, "userId": user, "actionId": "free", "points": points}
        answer = self.client.post("/api/scores", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def page(self, **query: object) -> dict[str, object]:
        answer = self.client.get("/api/leaderboard", params={"board": self.name, "limit": 100} | query)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ranks(self, **query: object) -> list[tuple[int, str, int]]:
        return [(e["rank"], e["userId"], e["score"]) for e in self.page(**query)["leaderboard"]]  # type: ignore[attr-defined]

    def stats(self, user: str, **query: object) -> dict[str, object]:
        answer = self.client.get(f"/api/users/{user}/stats", params={"board": self.name} | query)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def set_time(self, stores: Stores, at: datetime) -> None:
        """The next event will be at that time, if it is later than the last one and than now."""
        stores.query("UPDATE boards SET last_at = $1, clock_at = $1 WHERE board_id = $2", at, self.name)


def open_board(server: Server, client: httpx.Client, **settings: object) -> TestBoard:
    """A new board. :param client: an admin who may submit for anyone."""
    board = TestBoard(f"own-{next(_numbers)}", server, client)
    board.put(**settings)
    answer = client.put(f"/api/boards/{board.name}/actions/free", json={"points": BOUNDS})
    assert answer.status_code == 201, answer.text
    return board


def admin_client(server: Server) -> httpx.Client:
    """A client that may do everything."""
    headers = {"Authorization": f"Bearer {make_token('root', 'admin scores:any')}"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=20, verify=False)
