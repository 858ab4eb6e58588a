"""Settings of boards: changed one by one or all at once, and what is fixed; time zones that both systems know."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from zoneinfo import available_timezones

import httpx
import pytest

from tests.e2e.answers import check_problem
from tests.e2e.boards import admin_client, make_board, play
from tests.harness import Server, Stores, Stream, wait_until

MERGE_PATCH = {"content-type": "application/merge-patch+json"}
DEFAULTS = {"title": "", "windows": ["all"], "ties": "shared", "timezone": "UTC", "operator": "sum", "floor": None}
OTHERS = {
    "title": "Quiz",
    "windows": ["all", "day", "week"],
    "ties": "first",
    "timezone": "Europe/Berlin",
    "operator": "sum",
    "floor": 0,
}


@pytest.fixture(scope="module")
def admin(shared: Server) -> Iterator[httpx.Client]:
    with admin_client(shared) as client:
        yield client


def settings_of(admin: httpx.Client, board: str) -> dict[str, object]:
    return {name: value for name, value in admin.get(f"/api/boards/{board}").json().items() if name in DEFAULTS}


def check_field(answer: httpx.Response, field: str) -> None:
    problem = check_problem(answer, 422, "invalid", names=field)
    assert [error["field"] for error in problem["errors"]] == [field]  # type: ignore[attr-defined]


# -- PATCH


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_named_stays(admin: httpx.Client, name: str) -> None:
    board = make_board(admin, f"patched-{name}", **OTHERS)
    new = {
        "title": "Renamed",
        "windows": ["all"],
        "ties": "dense",
        "timezone": "Asia/Tokyo",
        "operator": "sum",
        "floor": -5,
    }
    answer = admin.patch(f"/api/boards/{board}", json={name: new[name]})
    assert answer.status_code == 200, answer.text
    assert settings_of(admin, board) == OTHERS | {name: new[name]}
    assert {field: answer.json()[field] for field in DEFAULTS} == OTHERS | {name: new[name]}
    assert admin.patch(f"/api/boards/{board}", json={name: None}).status_code == 200
    assert settings_of(admin, board) == OTHERS | {name: DEFAULTS[name]}


def test_a_patch_may_be_announced_as_what_it_is(admin: httpx.Client) -> None:
    board = make_board(admin, "announced", **OTHERS)
    answer = admin.patch(f"/api/boards/{board}", content=b'{"title":"x"}', headers=MERGE_PATCH)
    assert answer.json()["title"] == "x"
    for kind in ("application/json-patch+json", "text/plain"):
        headers = {"content-type": kind}
        answer = admin.patch(f"/api/boards/{board}", content=b'{"title":"y"}', headers=headers)
        check_problem(answer, 415, "unsupported_media_type")
    answer = admin.put(f"/api/boards/{board}", content=b'{"title":"y"}', headers=MERGE_PATCH)
    check_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({}, "body"),
        ({"nope": 1}, "nope"),
        ({"order": "asc"}, "order"),
        ({"title": 5}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "a\x00b"}, "title"),
        ({"windows": []}, "windows"),
        ({"windows": ["day"]}, "windows"),
        ({"windows": ["all", "hour"]}, "windows[1]"),
        ({"windows": ["all", "day", "day"]}, "windows"),
        ({"ties": "other"}, "ties"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"operator": "best", "floor": 3}, "floor"),
        ({"floor": 2**53}, "floor"),
    ],
)
def test_a_wrong_patch_changes_nothing(admin: httpx.Client, patch: dict[str, object], field: str) -> None:
    if admin.get("/api/boards/kept").status_code == 404:
        make_board(admin, "kept", **OTHERS)
    check_field(admin.patch("/api/boards/kept", json=patch), field)
    assert settings_of(admin, "kept") == OTHERS


def test_a_patch_of_no_board_is_not_found(admin: httpx.Client) -> None:
    check_problem(admin.patch("/api/boards/nowhere", json={"title": "x"}), 404, "not_found", names="nowhere")
    check_field(admin.patch("/api/boards/nowhere", json={}), "body")


def test_a_floor_goes_with_sums_whichever_of_the_two_is_named(admin: httpx.Client) -> None:
    floored, best = make_board(admin, "floored", floor=0), make_board(admin, "best", operator="best")
    check_field(admin.patch(f"/api/boards/{floored}", json={"operator": "best"}), "operator")
    check_field(admin.patch(f"/api/boards/{best}", json={"floor": 0}), "floor")
    assert admin.patch(f"/api/boards/{floored}", json={"operator": "best", "floor": None}).status_code == 200


def test_what_is_fixed_is_told_as_a_conflict(admin: httpx.Client) -> None:
    board = make_board(admin, "fixed")
    assert admin.patch(f"/api/boards/{board}", json={"operator": "best"}).status_code == 200
    assert admin.patch(f"/api/boards/{board}", json={"operator": None}).status_code == 200
    play(admin, board, ann=1)
    for ask in (admin.patch, admin.put):
        check_problem(ask(f"/api/boards/{board}", json={"operator": "last"}), 409, "board_not_empty", names="last")
        assert ask(f"/api/boards/{board}", json={"operator": "sum"}).status_code == 200


def test_two_patches_at_once_are_both_there(admin: httpx.Client, shared: Server) -> None:
    board = make_board(admin, "raced")
    clients = [admin_client(shared) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            patches = [{"title": f"t{number}"}, {"floor": number}, {"ties": ["first", "dense"][number % 2]}]
            patches.append({"timezone": ["UTC", "Asia/Tokyo"][number % 2]})
            asked = zip(clients, patches, strict=True)
            answers = list(pool.map(lambda each: each[0].patch(f"/api/boards/{board}", json=each[1]), asked))
            assert [answer.status_code for answer in answers] == [200] * 4
            expected = {name: value for patch in patches for name, value in patch.items()}
            assert settings_of(admin, board) == DEFAULTS | expected
    for client in clients:
        client.close()


def test_a_patch_and_a_replacement_at_once_are_one_after_the_other(admin: httpx.Client, shared: Server) -> None:
    board = make_board(admin, "replaced")
    with ThreadPoolExecutor(2) as pool, admin_client(shared) as other:
        for number in range(20):
            assert admin.put(f"/api/boards/{board}", json={"title": "old", "ties": "first"}).status_code == 200
            put = pool.submit(admin.put, f"/api/boards/{board}", json={"title": "new", "ties": "dense"})
            patch = pool.submit(other.patch, f"/api/boards/{board}", json={"floor": number})
            assert put.result().status_code == patch.result().status_code == 200
            found = settings_of(admin, board)
            assert (found["title"], found["ties"]) == ("new", "dense")
            assert found["floor"] in (number, None)


def test_a_title_alone_resets_nobody_and_a_replacement_takes_the_windows(admin: httpx.Client, shared: Server) -> None:
    board = make_board(admin, "renamed", windows=["all", "day"], ties="first")
    play(admin, board, ann=1)
    with Stream(shared.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        assert admin.patch(f"/api/boards/{board}", json={"title": "New"}).status_code == 200
        play(admin, board, ann=1)
        stream.wait_for(lambda s: s.of("score-updated"))
        assert not stream.of("reset")
        assert admin.put(f"/api/boards/{board}", json={"title": "New"}).status_code == 200
        stream.wait_for(lambda s: s.of("reset"))
    assert settings_of(admin, board) == DEFAULTS | {"title": "New"}


def test_windows_that_are_being_filled_are_kept(admin: httpx.Client, module_stores: Stores) -> None:
    board = make_board(admin, "filled")
    play(admin, board, ann=1)
    module_stores.query("INSERT INTO fills (board_id, windows) VALUES ($1, '{day}')", board)
    assert admin.patch(f"/api/boards/{board}", json={"title": "x"}).status_code == 200
    assert settings_of(admin, board)["windows"] == ["all", "day"]


def test_the_document_says_what_a_replacement_does(admin: httpx.Client) -> None:
    operations = admin.get("/openapi.json").json()["paths"]["/api/boards/{board}"]
    assert "windows" in operations["put"]["description"] and "default" in operations["put"]["description"]
    assert set(operations["patch"]["requestBody"]["content"]) == {"application/json", "application/merge-patch+json"}


def test_titles_are_taken_in_any_script_and_in_one_form(admin: httpx.Client) -> None:
    for title in ("クイズ　大会", "Café\u00a0Noir", "🏆", "", "a" * 200, "e\u0301" * 200):
        answer = admin.put("/api/boards/titled", json={"title": title})
        assert answer.status_code in (200, 201), answer.text
    assert settings_of(admin, "titled")["title"] == "é" * 200
    for title in ("a\nb", "\x7f", "\u0085", "e\u0301" * 201, "   "):
        check_field(admin.put("/api/boards/titled", json={"title": title}), "title")


# -- time zones


OF_MACHINES = ["localtime", "posixrules", "Factory", "posix/Europe/Berlin", "right/Europe/Berlin", "posix/UTC"]
OF_NOBODY = ["europe/berlin", "UTC+3", "EST5EDT4", "+03:00", "Europe", "Europe/", "../UTC", "Etc", " UTC", "UTC\n"]


@pytest.mark.parametrize("name", OF_MACHINES + OF_NOBODY)
def test_a_zone_that_either_system_does_not_know_is_refused(admin: httpx.Client, name: str) -> None:
    for ask, path in ((admin.put, "/api/boards/zoned-new"), (admin.patch, "/api/boards/global")):
        check_field(ask(path, json={"timezone": name}), "timezone")
    assert admin.get("/api/boards/zoned-new").status_code == 404


def test_every_zone_that_is_taken_serves_a_board(admin: httpx.Client, module_stores: Stores) -> None:
    """Of each initial some; among them what one of the two systems lists and the other does not."""
    known = {row["name"] for row in module_stores.query("SELECT name FROM pg_timezone_names")}
    differing = sorted(available_timezones() ^ known)
    sample = sorted(available_timezones() & known)[::40]
    board = make_board(admin, "zones", windows=["all", "day", "week", "month"])
    play(admin, board, ann=1)
    for name in (*sample, *differing[::20], "CET", "EST", "GMT", "Zulu", "Asia/Kathmandu"):
        answer = admin.patch(f"/api/boards/{board}", json={"timezone": name})
        if name in sample:
            assert answer.status_code == 200 or name in ("CET", "EET", "MET", "WET"), answer.text
        if answer.status_code == 200:
            assert name in known and name in available_timezones()
            play(admin, board, ann=1)
            page = admin.get("/api/leaderboard", params={"board": board, "window": "day"})
            assert page.status_code == 200, page.text
        else:
            check_field(answer, "timezone")


def test_a_zone_that_the_database_takes_for_an_abbreviation_is_refused(admin: httpx.Client) -> None:
    """CET has a summer time, and the abbreviation has none: a board would have other days than its name says."""
    for name in ("CET", "MET", "EET", "WET"):
        check_field(admin.put("/api/boards/abbreviated", json={"timezone": name}), "timezone")
    for name in ("EST", "GMT", "UCT"):  # means the same either way
        assert admin.put("/api/boards/abbreviated", json={"timezone": name}).status_code in (200, 201)


def test_a_board_of_an_unknown_zone_stops_nobody_else(start_server: Callable[..., Server], stores: Stores) -> None:
    """As a name that an upgrade of the database took away: the board says what is wrong and can be mended."""
    server = start_server(LOG_FORMAT="json")
    server.put_action("win", 10)
    with admin_client(server) as admin:
        lost = make_board(admin, "lost", windows=["all", "day"])
        play(admin, lost, ann=1)
        assert server.submit("bob").status_code == 200
        stores.query("UPDATE boards SET timezone = 'localtime' WHERE board_id = $1", lost)
        verified = server.run("verify")
        assert verified.returncode == 1, verified.stderr
        assert "lost: can't be checked: " in verified.stdout and "localtime" in verified.stdout
        assert "global" not in verified.stdout and "Traceback" not in verified.stderr
        server.stop()
        server.start()
        body = {"board": lost, "actionId": "get", "userId": "ann", "points": 1}
        for path in ("/api/leaderboard?period=2026-11-02&", "/api/users/ann/stats?"):
            answer = admin.get(f"{path}window=day&board={lost}")
            check_problem(answer, 503, "unavailable", names="localtime")
        refused = admin.post("/api/scores", json=body)
        check_problem(refused, 503, "unavailable", names="localtime")
        assert server.submit("bob").json()["rank"] == 1
        assert admin.get("/readyz").status_code == 200
        assert admin.get("/api/boards/lost").json()["timezone"] == "localtime"
        assert admin.get("/api/boards").status_code == 200
        assert server.read_log().count("board_unusable") <= 1
        assert "handler_failed" not in server.read_log() and "repair_failed" not in server.read_log()
        assert admin.patch(f"/api/boards/{lost}", json={"timezone": "UTC"}).status_code == 200
        wait_until(lambda: admin.post("/api/scores", json=body).status_code == 200, what="the mended board")
        ranked = wait_until(lambda: admin.get("/api/leaderboard?window=day&board=lost").json().get("leaderboard"))
        assert [entry["userId"] for entry in ranked] == ["ann"]  # type: ignore[attr-defined]
    assert server.stop() == 0
    assert server.run("verify").returncode == 0
