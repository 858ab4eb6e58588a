"""A board of a test's own, and what is asked of it."""

import itertools
from dataclasses import dataclass
from datetime import datetime

import httpx

from tests.harness import Server, Stores, make_token

_numbers = itertools.count(1)
Entries = list[tuple[int, str, int]]
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
        return read_page(self.client, **{"board": self.name, "limit": 100} | query)

    def ranks(self, **query: object) -> Entries:
        return shown(self.page(**query))

    def stats(self, user: str, **query: object) -> dict[str, object]:
        answer = self.client.get(f"/api/users/{user}/stats", params={"board": self.name} | query)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def set_time(self, stores: Stores, at: datetime) -> None:
        """The next event will be at that time, if it is later than the last one and than now."""
        stores.query("UPDATE boards SET last_at = $1, clock_at = $1 WHERE board_id = $2", at, self.name)


def ask_page(client: httpx.Client, **query: object) -> httpx.Response:
    return client.get("/api/leaderboard", params=query)  # type: ignore[arg-type]


def read_page(client: httpx.Client, **query: object) -> dict[str, object]:
    """A page that there is."""
    answer = ask_page(client, **query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def shown(page: dict[str, object]) -> Entries:
    return [(each["rank"], each["userId"], each["score"]) for each in page["leaderboard"]]  # type: ignore[attr-defined]


def make_board(admin: httpx.Client, board: str, **settings: object) -> str:
    """A board with an action ``get`` whose points are open."""
    assert admin.put(f"/api/boards/{board}", json=settings).status_code == 201
    action = {"points": {"min": -1_000, "max": 1_000}}
    assert admin.put(f"/api/boards/{board}/actions/get", json=action).status_code == 201
    return board


def play(admin: httpx.Client, board: str, **points: int) -> None:
    for user, gained in points.items():
        body = {"board": board, "userId": user, "actionId": "get", "points": gained}
        answer = admin.post("/api/scores", json=body)
        assert answer.status_code == 200, answer.text


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
