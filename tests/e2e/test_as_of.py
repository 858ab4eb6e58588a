"""``asOf``: a board as it stood at a seq or a time."""

import asyncio
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import asyncpg
import httpx
import pytest

from scoreboard.database import COSTLY_POOL_MAX
from tests.e2e.answers import check_problem
from tests.e2e.boards import Entries, ask_page, make_board, play, read_page, shown
from tests.harness import DEADLINE_S, Server, Stores


@pytest.fixture(scope="module")
def admin(shared: Server) -> Iterator[httpx.Client]:
    with shared.client("admin", "admin scores:any") as client:
        yield client


def ask(client: httpx.Client, board: str, as_of: object, **query: object) -> httpx.Response:
    return ask_page(client, board=board, asOf=as_of, **query)


def read(client: httpx.Client, board: str, as_of: object, **query: object) -> dict[str, object]:
    return read_page(client, board=board, asOf=as_of, **query)


def live(client: httpx.Client, board: str) -> dict[str, object]:
    return read_page(client, board=board)


def test_every_position_shows_the_page_that_was_live_there(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "replayed")
    pages = [live(public, board)]
    for user, points in (("ann", 5), ("bob", 7), ("ann", 2), ("cleo", 7), ("bob", -9), ("ann", 0)):
        play(admin, board, **{user: points})
        pages.append(live(public, board))
    for seq, page in enumerate(pages):
        assert read(public, board, seq) == page | {"asOf": seq, "seq": seq}
    assert [page["seq"] for page in pages] == list(range(7))
    check_problem(ask(public, board, 7), 422, "invalid", names="asOf: 7 is in the future")


@pytest.mark.parametrize(
    ("ties", "order"),
    [("shared", [(1, "ann", 5), (1, "bob", 5)]), ("dense", [(1, "ann", 5), (1, "bob", 5)]),
     ("first", [(1, "bob", 5), (2, "ann", 5)])],
)  # fmt: skip
def test_ties_are_those_of_now(admin: httpx.Client, public: httpx.Client, ties: str, order: Entries) -> None:
    board = make_board(admin, f"now-{ties}")
    play(admin, board, bob=5, ann=5)
    play(admin, board, bob=0)  # it leaves the score as it was, and since when
    play(admin, board, ann=1)
    before = ask(public, board, 3)
    assert shown(before.json()) == [(1, "ann", 5), (1, "bob", 5)]
    assert admin.put(f"/api/boards/{board}", json={"ties": ties}).status_code == 200
    assert shown(read(public, board, 3)) == order
    assert (ask(public, board, 3).headers["etag"] == before.headers["etag"]) == (ties != "first")


def test_offset_and_limit_page_through_the_past(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "paged-past")
    play(admin, board, **{f"u{number}": number % 3 for number in range(9)})
    whole = shown(live(public, board))
    play(admin, board, u0=100)
    for limit in (1, 2, 4, 9):
        pages = [read(public, board, 9, limit=limit, offset=offset) for offset in range(0, 9, limit)]
        assert [entry for page in pages for entry in shown(page)] == whole
        assert {page["total"] for page in pages} == {9}
        assert {page["next"] for page in pages} == {None}
    beyond = read(public, board, 9, offset=2**53 - 1)
    assert (beyond["leaderboard"], beyond["total"]) == ([], 9)


def test_a_time_is_the_last_event_at_or_before_it(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "timed")
    play(admin, board, ann=1, bob=1, cleo=1)
    history = [admin.get(f"/api/users/{u}/history", params={"board": board}).json()["events"] for u in ("ann", "bob")]
    for (event,) in history:
        at = datetime.fromisoformat(event["at"])
        just_before = at - timedelta(microseconds=1)
        west = at.astimezone(timezone(timedelta(hours=-12))).isoformat()
        east = at.astimezone(timezone(timedelta(hours=5, minutes=45))).isoformat()
        for text in (event["at"], event["at"].lower(), west, east, east.replace("+", " ")):
            page = read(public, board, text)
            assert int(str(page["seq"])) >= event["seq"], text  # several may share a millisecond
            assert page["asOf"] == event["at"]
        assert int(str(read(public, board, just_before.isoformat())["seq"])) < event["seq"]
    assert read(public, board, "0001-01-01T00:00:00Z")["seq"] == 0


def test_a_time_to_come_is_refused(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "to-come")
    play(admin, board, ann=1)
    at = datetime.fromisoformat(admin.get("/api/users/ann/history", params={"board": board}).json()["events"][0]["at"])
    assert read(public, board, at.isoformat())["seq"] == 1
    soon = (at + timedelta(hours=1)).isoformat()
    check_problem(ask(public, board, soon), 422, "invalid", names="is in the future")


@pytest.mark.parametrize(
    "as_of",
    ["", "-1", "1.5", "x", "now", "2020-01-01", "2020-01-01T00:00:00", "2020-01-01T00:00Z", "2020-13-01T00:00:00Z",
     "2020-01-01T25:00:00Z", "2020-01-01T00:00:60Z", "2020-01-01T00:00:00+24:00", "0000-01-01T00:00:00Z",
     "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "20200101T000000Z", "9007199254740992", "1" * 17, "\0"],
)  # fmt: skip
def test_what_is_neither_a_seq_nor_a_time_is_refused(public: httpx.Client, as_of: str) -> None:
    check_problem(ask(public, "global", as_of), 422, "invalid", names="asOf")


@pytest.mark.parametrize(
    "others", [{"window": "day"}, {"window": "day", "period": "2020-01-01"}, {"group": "g"}, {"cursor": "next"}]
)
def test_the_past_does_not_go_together_with_what_is_of_now(
    public: httpx.Client, admin: httpx.Client, others: dict[str, str]
) -> None:
    if "cursor" in others:
        play(admin, make_board(admin, "two-pages"), a=1, b=2)
        others = {"cursor": str(read_page(public, board="two-pages", limit=1)["next"])}
    check_problem(ask(public, "global", 0, **others), 422, "invalid", names="does not go together with asOf")


def test_unknown_board_has_no_past(public: httpx.Client) -> None:
    check_problem(ask(public, "nowhere", 0), 404, "not_found", names="nowhere")


def test_board_without_events_has_its_beginning_only(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "unborn")
    page = read(public, board, 0)
    assert (page["leaderboard"], page["total"], page["seq"], page["asOf"]) == ([], 0, 0, 0)
    assert read(public, board, "2020-01-01T00:00:00Z")["seq"] == 0
    check_problem(ask(public, board, 1), 422, "invalid", names="asOf")


def test_who_is_hidden_or_erased_now_does_not_appear(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "shy")
    play(admin, board, **{"s-ann": 3, "s-bob": 2, "s-cleo": 1})
    whole = ask(public, board, 3)
    assert [user for _, user, _ in shown(whole.json())] == ["s-ann", "s-bob", "s-cleo"]
    admin.post("/api/users/s-ann/hide")
    hidden = ask(public, board, 3)
    assert (shown(hidden.json()), hidden.json()["total"]) == ([(1, "s-bob", 2), (2, "s-cleo", 1)], 2)
    admin.post("/api/users/s-ann/unhide")
    assert ask(public, board, 3).json() == whole.json()
    assert shown(read(public, board, 4)) == [(1, "s-bob", 2), (2, "s-cleo", 1)]  # as the board showed it then
    assert admin.delete("/api/users/s-bob").status_code == 204
    erased = ask(public, board, 3)
    assert shown(erased.json()) == [(1, "s-ann", 3), (2, "s-cleo", 1)]
    assert "erased-" not in erased.text
    assert len({whole.headers["etag"], hidden.headers["etag"], erased.headers["etag"]}) == 3


def test_what_was_revoked_later_counted_then(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "undone", floor=0)
    play(admin, board, ann=5, bob=4)
    play(admin, board, ann=-9)
    answer = admin.post(f"/api/boards/{board}/events/1/revoke", json={"reason": "tried"})
    assert answer.status_code == 200, answer.text
    assert [shown(read(public, board, seq)) for seq in range(5)] == [
        [],
        [(1, "ann", 5)],
        [(1, "ann", 5), (2, "bob", 4)],
        [(1, "bob", 4), (2, "ann", 0)],
        shown(live(public, board)),
    ]


def test_tag_of_the_past_stays_while_the_board_goes_on(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "kept")
    play(admin, board, ann=1, bob=2)
    first = ask(public, board, 1)
    play(admin, board, ann=5)
    again = public.get("/api/leaderboard", params={"board": board, "asOf": 1}, headers={"If-None-Match": "x"})
    assert re.fullmatch(r'"[^"]+"', first.headers["etag"])
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    assert first.headers["cache-control"] == "no-cache"
    headers = {"If-None-Match": first.headers["etag"]}
    answer = public.get("/api/leaderboard", params={"board": board, "asOf": 1}, headers=headers)
    assert (answer.status_code, answer.content) == (304, b"")
    assert ask(public, board, 2).headers["etag"] != first.headers["etag"]


def test_reading_the_present_as_past_is_not_forgotten(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "onward")
    for seq in range(1, 31):
        play(admin, board, ann=1)
        assert read(public, board, seq)["seq"] == seq
        assert int(str(live(public, board)["seq"])) >= seq


def test_more_questions_than_can_be_computed_at_once_are_refused_soon(
    admin: httpx.Client, shared: Server, module_stores: Stores
) -> None:
    board = make_board(admin, "crowded")
    play(admin, board, ann=1)

    async def ask_other(client: httpx.AsyncClient, offset: int) -> httpx.Response:
        return await client.get(f"/api/leaderboard?board={board}&asOf=1&offset={offset}")

    async def hold_up_and_ask() -> list[httpx.Response]:
        connection = await asyncpg.connect(module_stores.database_url)
        try:
            async with httpx.AsyncClient(base_url=shared.url, timeout=DEADLINE_S, verify=False) as client:
                async with connection.transaction():
                    await connection.execute("LOCK TABLE ledger")
                    asked = [ask_other(client, offset) for offset in range(COSTLY_POOL_MAX + 1)]
                    tasks = [asyncio.create_task(each) for each in asked]
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                return await asyncio.gather(*tasks)
        finally:
            await connection.close()

    answers = sorted(asyncio.run(hold_up_and_ask()), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [*[200] * COSTLY_POOL_MAX, 503]
    check_problem(answers[-1], 503, "overloaded")
    assert answers[-1].headers["retry-after"]
