"""Users who try to be seen though they are hidden, to make all readers begin anew, or to look like somebody else."""

from collections.abc import Callable
from itertools import product

import httpx

from tests.abuse.bystander import bystander
from tests.harness import Server, Stream, make_token

LOOK_ALIKES = ["e\u0301", "\u00e9"]
"""One letter in two spellings."""
MARKS = "\u0301\u0316\u0327\u0308"


def test_erasing_oneself_again_and_again_shows_nobody_and_resets_readers_once(server: Server, full: bool) -> None:
    """A hidden cheat erases itself, plays on and erases itself again, for as long as it is let."""
    rounds = 200 if full else 40
    with server.client("root", "admin") as admin:
        assert admin.post("/api/users/cheat/hide").status_code == 200
    server.submit("honest")
    statuses, ranks = [], set()
    with Stream(server.stream_url()) as stream, Stream(server.stream_url()) as other, server.client("cheat") as cheat:
        with bystander(server) as waits:
            for number in range(rounds):
                played = cheat.post("/api/scores", json={"actionId": "win"}, headers={"Idempotency-Key": f"k{number}"})
                ranks.add(played.json()["rank"])
                statuses.append(cheat.delete("/api/users/cheat").status_code)
        seq = int(server.submit("honest").json()["seq"])
        for reader in (stream, other):
            reader.wait_for_seq(seq)
            assert len(reader.of("reset")) <= 1
            assert not [frame for frame in reader.frames if "cheat" in str(frame.data)]
    waits.check(p95_ms=250, max_ms=2_000)
    assert statuses == [204] + [429] * (rounds - 1)
    assert ranks == {None}
    assert server.run("rebuild").returncode == 0
    with server.client() as anyone:
        shown = [entry["userId"] for entry in anyone.get("/api/leaderboard").json()["leaderboard"]]
        assert "cheat" not in shown
        assert anyone.get("/api/users/cheat/stats").status_code == 404
    assert server.run("verify").returncode == 0


def test_look_alikes_are_one_user_and_long_ones_cost_nothing(start_server: Callable[..., Server], full: bool) -> None:
    server = start_server()
    server.put_action("win", 10)
    letters = 9 if full else 6
    spellings = ["".join(parts) for parts in product(LOOK_ALIKES, repeat=letters)]
    with bystander(server) as waits, server.client("game", "scores:any") as game, server.client() as plain:
        for part in range(0, len(spellings), 64):
            items = [{"actionId": "win", "userId": user} for user in spellings[part : part + 64]]
            results = game.post("/api/scores/batch", json={"submissions": items}).json()["results"]
            assert {each["userId"] for each in results} == {"\u00e9" * letters}
        for length in (2_000, 4_000) * (200 if full else 20):  # sorting so many marks takes time with the square of it
            marks = "a" + (MARKS[::-1] * length)[:length]
            wrong = game.post("/api/scores", json={"actionId": "win", "userId": marks})
            assert wrong.status_code == 422
            assert len(wrong.text) < 2_000
            headers = {"Authorization": f"Bearer {make_token(marks[:600])}"}
            assert plain.post("/api/scores", json={"actionId": "win"}, headers=headers).status_code == 401
        page = plain.get("/api/leaderboard").json()
        ranked = {entry["userId"]: entry["score"] for entry in page["leaderboard"]}
    waits.check(p95_ms=250, max_ms=2_000)
    assert ranked["\u00e9" * letters] == 10 * 2**letters
    assert set(ranked) == {"\u00e9" * letters, "bystander"}


def test_a_demo_token_opens_nothing_but_the_demo(start_server: Callable[..., Server]) -> None:
    server = start_server(DEMO="on")
    server.put_action("win", 10)
    with server.client() as anyone:
        token = anyone.get("/demo").json()["token"]
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, verify=False) as demo:
        assert demo.post("/api/scores", json={"actionId": "win"}).status_code == 200
        for method, path in (
            ("PUT", "/api/boards/quiz"),
            ("PUT", "/api/boards/global/actions/win"),
            ("PUT", "/api/boards/global/groups/g"),
            ("PUT", "/api/users/alice"),
            ("POST", "/api/users/alice/hide"),
            ("POST", "/api/boards/global/users/alice/hide"),
            ("POST", "/api/boards/global/events/1/revoke"),
            ("POST", "/api/scores/batch"),
            ("DELETE", "/api/users/alice"),
            ("DELETE", "/api/boards/global/actions/win"),
            ("GET", "/api/users/alice/history"),
        ):
            assert demo.request(method, path, json={}).status_code == 403, (method, path)
