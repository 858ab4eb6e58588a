"""Users beyond their scores: names seen everywhere, hiding and coming back, erasure; and events made undone."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.answers import check_problem, parse_answers
from tests.e2e.boards import TestBoard, admin_client, open_board
from tests.harness import Server, Stores, Stream, make_token, seq_of

WINDOWS = ("all", "day")


@pytest.fixture(scope="module")
def client(shared: Server) -> Iterator[httpx.Client]:
    with admin_client(shared) as client:
        yield client


@pytest.fixture
def board(shared: Server, client: httpx.Client) -> TestBoard:
    return open_board(shared, client, windows=["all", "day"])


def named(board: TestBoard, window: str = "all") -> dict[str, object]:
    return {e["userId"]: e["displayName"] for e in board.page(window=window)["leaderboard"]}  # type: ignore[attr-defined]


def test_a_name_is_seen_everywhere_once_it_is_given(shared: Server, client: httpx.Client, board: TestBoard) -> None:
    user, later = f"u-{board.name}", f"later-{board.name}"
    board.score(user, 5)
    with Stream(shared.stream_url(board.name)) as stream, Stream(shared.stream_url(board.name, window="day")) as day:
        for each in (stream, day):
            each.wait_for(lambda s: s.of("leaderboard"))
        answer = client.put(f"/api/users/{user}", json={"displayName": "Ünal ☃"})
        assert (answer.status_code, answer.json()["displayName"]) == (200, "Ünal ☃")
        for each in (stream, day):
            each.wait_for(lambda s: len(s.of("leaderboard")) == 2)
            told = each.of("user-updated")[0].data
            assert (told["userId"], told["change"], told["displayName"], told["score"]) == (
                user,
                "renamed",
                "Ünal ☃",
                5,
            )
            assert each.of("leaderboard")[-1].data["top10"][0]["displayName"] == "Ünal ☃"  # type: ignore[index]
    assert client.put(f"/api/users/{later}", json={"displayName": "Early"}).status_code == 200
    board.score(later, 1)
    for window in WINDOWS:
        assert named(board, window) == {user: "Ünal ☃", later: "Early"}
    assert board.stats(user)["displayName"] == "Ünal ☃"
    around = client.get(f"/api/leaderboard/around/{user}", params={"board": board.name}).json()
    assert [e["displayName"] for e in around["leaderboard"]] == ["Ünal ☃", "Early"]
    ids = client.get("/api/leaderboard/users", params={"board": board.name, "ids": f"{later},nobody"}).json()
    assert [e["displayName"] for e in ids["leaderboard"]] == ["Early", None]
    assert client.put(f"/api/users/{user}", json={"displayName": None}).status_code == 200
    assert named(board) == {user: None, later: "Early"}


@pytest.mark.parametrize("window", WINDOWS)
def test_updates_have_the_name_of_whose_score_they_tell(
    start_shared: Callable[..., Server], shared: Server, client: httpx.Client, board: TestBoard, window: str
) -> None:
    """As they come, folded for who comes back, and from the ledger to a server that has not heard of them."""

    def has_all(stream: Stream) -> bool:
        return stream.last_id is not None and seq_of(stream.last_id) == 3

    user, nameless = f"u-{board.name}", f"n-{board.name}"
    assert client.put(f"/api/users/{user}", json={"displayName": "Ünal"}).status_code == 200
    with Stream(shared.stream_url(board.name, window=window)) as stream:
        stream.wait_for(lambda s: s.last_id)
        before = stream.last_id
        for scorer in (user, nameless, user):
            board.score(scorer, 1)
        stream.wait_for(has_all)
        assert names_told(stream) == {user: "Ünal", nameless: None}
    for server in (shared, start_shared()):
        with Stream(server.stream_url(board.name, window=window), last_event_id=before) as back:
            back.wait_for(has_all)
            assert names_told(back) == {user: "Ünal", nameless: None}


def names_told(stream: Stream) -> dict[object, object]:
    return {frame.data["userId"]: frame.data["displayName"] for frame in stream.of("score-updated")}


def test_the_same_name_again_is_no_event(client: httpx.Client, board: TestBoard) -> None:
    user = f"u-{board.name}"
    board.score(user, 5)
    for _ in range(3):
        assert client.put(f"/api/users/{user}", json={"displayName": "One"}).status_code == 200
    assert board.page()["seq"] == 2


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, 5, True, ["a"]])
def test_a_bad_name_is_refused(client: httpx.Client, name: object) -> None:
    problem = check_problem(client.put("/api/users/someone", json={"displayName": name}), 422, "invalid")
    assert problem["errors"][0]["field"] == "displayName"  # type: ignore[index]


def test_who_is_hidden_is_gone_at_once_and_comes_back_with_the_right_total(
    shared: Server, client: httpx.Client, board: TestBoard
) -> None:
    user = f"cheat-{board.name}"
    for each, points in (("a", 10), (user, 7), ("z", 5)):
        board.score(each, points)
    with Stream(shared.stream_url(board.name)) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        assert client.post(f"/api/users/{user}/hide").json() == {"userId": user, "displayName": None, "hidden": True}
        for window in WINDOWS:
            assert board.ranks(window=window) == [(1, "a", 10), (2, "z", 5)]
            assert board.page(window=window)["total"] == 2
        told = board.score(user, 100)
        assert (told["newScore"], told["rank"], told["previousRank"]) == (107, None, None)
        with shared.client() as anyone:
            check_problem(anyone.get(f"/api/users/{user}/stats", params={"board": board.name}), 404, "not_found")
        check_problem(client.get(f"/api/leaderboard/around/{user}", params={"board": board.name}), 404, "not_found")
        history = client.get(f"/api/users/{user}/history", params={"board": board.name}).json()
        assert [event["points"] for event in history["events"]] == [100, 7]
        assert client.post(f"/api/users/{user}/unhide").json()["hidden"] is False
        for window in WINDOWS:
            assert board.ranks(window=window) == [(1, user, 107), (2, "a", 10), (3, "z", 5)]
        stream.wait_for(lambda s: len(s.of("user-updated")) == 2)
        told_of = [
            (frame.data["change"], frame.data["score"], frame.data["rank"]) for frame in stream.of("user-updated")
        ]
        assert told_of == [("hidden", None, None), ("shown", 107, 1)]
        assert not [frame for frame in stream.of("score-updated") if frame.data["userId"] == user]


@pytest.mark.parametrize("where", ["everywhere", "here"])
def test_who_is_hidden_before_a_first_score_is_never_shown(
    shared: Server, client: httpx.Client, board: TestBoard, where: str
) -> None:
    user, other = f"early-{board.name}", open_board(shared, client)
    path = f"/api/users/{user}" if where == "everywhere" else f"/api/boards/{board.name}/users/{user}"
    told = client.post(f"{path}/hide")
    assert (told.status_code, told.json()["userId"], told.json()["hidden"]) == (200, user, True)
    assert board.score(user, 5)["rank"] is None
    assert other.score(user, 5)["rank"] == (None if where == "everywhere" else 1)
    assert board.ranks() == board.ranks(window="day") == board.ranks(asOf=1) == []
    assert client.post(f"{path}/unhide").json()["hidden"] is False
    assert board.ranks() == board.ranks(window="day") == other.ranks() == [(1, user, 5)]


def test_who_is_hidden_in_two_ways_is_shown_when_both_have_ended(client: httpx.Client, board: TestBoard) -> None:
    user = f"u-{board.name}"
    board.score(user, 5)
    here, everywhere = f"/api/boards/{board.name}/users/{user}", f"/api/users/{user}"
    for path in (here, everywhere):
        assert client.post(f"{path}/hide").json()["hidden"] is True
    for first, second in ((here, everywhere), (everywhere, here)):
        assert client.post(f"{first}/unhide").status_code == 200
        assert board.ranks() == []
        assert client.post(f"{second}/unhide").json()["hidden"] is False
        assert board.ranks() == [(1, user, 5)]
        for path in (here, everywhere):
            client.post(f"{path}/hide")
    answer = client.post(f"{here}/unhide").json()
    assert answer == {"board": board.name, "userId": user, "displayName": None, "hidden": True}


def test_hiding_on_a_board_that_is_not_there_is_not_found(client: httpx.Client) -> None:
    for what in ("hide", "unhide"):
        check_problem(client.post(f"/api/boards/none/users/u/{what}"), 404, "not_found", "none")


@pytest.mark.parametrize("where", ["everywhere", "here"])
def test_who_is_hidden_stays_so_through_erasure(
    shared: Server, client: httpx.Client, board: TestBoard, module_stores: Stores, where: str
) -> None:
    user, other = f"cheat-{where}-{board.name}", open_board(shared, client, windows=["all", "month"])
    board.score("honest", 1)
    board.score(user, 100)
    path = f"/api/users/{user}" if where == "everywhere" else f"/api/boards/{board.name}/users/{user}"
    assert client.post(f"{path}/hide").status_code == 200
    group = f"/api/boards/{board.name}/groups/all"
    with Stream(shared.stream_url(board.name)) as stream, shared.client(user) as own:
        stream.wait_for(lambda s: s.of("leaderboard"))
        assert own.delete(f"/api/users/{user}").status_code == 204
        for table in ("ledger", "totals", "users", "hidden_on_boards", "hidden_digests", "self_erasures"):
            assert not module_stores.query(f"SELECT 1 FROM {table} t WHERE t::text LIKE '%{user}%'"), table
        body = {"actionId": "free", "userId": user, "points": 50, "board": board.name}
        assert client.put(group, json={"members": ["honest", user]}).status_code in (200, 201)
        for _ in range(2):
            answer = client.post("/api/scores", json=body).json()
            assert (answer["rank"], answer["previousRank"]) == (None, None)
        seq = int(str(board.score("honest", 1)["seq"]))
        stream.wait_for_seq(seq)
        assert not [frame for frame in stream.frames if user in str(frame.data)]
    elsewhere = client.post("/api/scores", json={**body, "board": other.name}).json()
    assert elsewhere["rank"] == (None if where == "everywhere" else 1)
    today = board.page(window="day")["period"]
    assert shared.run("rebuild", "--board", board.name).returncode == 0
    for query in ({}, {"window": "day"}, {"window": "day", "period": today}, {"group": "all"}, {"asOf": seq}):
        assert board.ranks(**query) == [(1, "honest", 2)], query
        assert board.page(**query)["total"] == 1, query
    with shared.client() as anyone:
        assert anyone.get(group).json()["members"] == ["honest"]
        check_problem(anyone.get(f"/api/users/{user}/stats", params={"board": board.name}), 404, "not_found")
    with Stream(shared.stream_url(board.name), last_event_id=f"{board.page()['epoch']}-0") as late:
        late.wait_for_seq(seq)
        assert not [frame for frame in late.frames if user in str(frame.data)]
    assert client.post(f"{path}/unhide").json()["hidden"] is False
    assert board.ranks() == [(1, user, 100), (2, "honest", 2)]


def test_showing_again_who_was_erased_while_hidden_lifts_it(client: httpx.Client, board: TestBoard) -> None:
    user = f"u-{board.name}"
    board.score(user, 5)
    client.post(f"/api/users/{user}/hide")
    assert client.delete(f"/api/users/{user}").status_code == 204
    assert client.post(f"/api/users/{user}/unhide").json() == {"userId": user, "displayName": None, "hidden": False}
    assert board.score(user, 3)["rank"] == 1


def test_an_erasure_and_submissions_at_once_never_show_who_is_hidden(
    shared: Server, client: httpx.Client, module_stores: Stores
) -> None:
    """Wherever a first score falls between the steps of an erasure."""
    user, boards = "racing", [open_board(shared, client) for _ in range(4)]
    boards[0].score(user, 1)
    client.post(f"/api/users/{user}/hide")
    erasures = set()
    for _ in range(12):
        with ThreadPoolExecutor(len(boards) + 1) as pool, shared.client("root", "admin") as admin:
            erased = pool.submit(admin.delete, f"/api/users/{user}")
            ranks = list(pool.map(lambda board: board.score(user, 1)["rank"], boards))
            erasures.add(erased.result().status_code)  # 404 where all was erased already
        assert ranks == [None] * len(boards)
        assert [board.ranks() for board in boards] == [[]] * len(boards)
    assert 204 in erasures
    assert erasures <= {204, 404}
    shown = "SELECT count(*) FROM totals WHERE board_id = ANY ($1) AND NOT hidden"
    assert module_stores.query(shown, [board.name for board in boards])[0][0] == 0


def test_a_user_may_erase_itself_once_a_day(
    shared: Server, client: httpx.Client, board: TestBoard, module_stores: Stores
) -> None:
    user = f"u-{board.name}"
    with shared.client(user) as own:
        check_problem(own.delete(f"/api/users/{user}"), 404, "not_found", user)  # which is not counted
        board.score(user, 5)
        assert own.delete(f"/api/users/{user}").status_code == 204
        for _ in range(2):
            board.score(user, 5)
            refused = own.delete(f"/api/users/{user}")
            check_problem(refused, 429, "rate_limited", user)
            assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
            assert refused.headers["ratelimit-policy"] == '"erase";q=1;w=86400'
        assert client.delete(f"/api/users/{user}").status_code == 204  # an administrator's
        module_stores.query("UPDATE self_erasures SET at = at - interval '1 day'")
        board.score(user, 5)
        assert own.delete(f"/api/users/{user}").status_code == 204
    assert len(module_stores.query("SELECT 1 FROM self_erasures")) == 1


# -- what is told of somebody who is hidden


def test_of_a_hidden_user_only_those_are_told_who_may_know(
    shared: Server, client: httpx.Client, board: TestBoard
) -> None:
    user = f"u-{board.name}"
    for each, points in (("a", 10), (user, 7), ("z", 5)):
        board.score(each, points)
    client.put(f"/api/users/{user}", json={"displayName": "Known"})
    client.post(f"/api/users/{user}/hide")
    params = {"board": board.name}
    allowed = [shared.client(user), shared.client("judge", "boards:read"), shared.client("root", "admin")]
    for each in allowed:
        with each:
            for window in WINDOWS:
                stats = each.get(f"/api/users/{user}/stats", params={**params, "window": window}).json()
                assert (stats["hidden"], stats["score"], stats["rank"], stats["percentile"]) == (True, 7, None, None)
                assert (stats["total"], stats["submissions"], stats["displayName"]) == (2, 1, "Known")
                assert stats["window"] == window
    with shared.client() as anyone, shared.client("somebody", "scores:any") as other:
        for each in (anyone, other):
            hidden = each.get(f"/api/users/{user}/stats", params=params)
            unknown = each.get("/api/users/nobody-at-all/stats", params=params)
            check_problem(hidden, 404, "not_found")
            assert hidden.text.replace(user, "nobody-at-all") == unknown.text
            check_problem(each.get(f"/api/leaderboard/around/{user}", params=params), 404, "not_found")
            places = each.get("/api/leaderboard/users", params={**params, "ids": user}).json()
            assert places["leaderboard"] == [{"rank": None, "userId": user, "displayName": None, "score": None}]
        wrong = {"Authorization": "Bearer nonsense"}
        for each in (user, "nobody-at-all"):
            check_problem(anyone.get(f"/api/users/{each}/stats", params=params, headers=wrong), 401, "unauthenticated")
        shown = anyone.get("/api/users/a/stats", params=params, headers=wrong)
        assert (shown.status_code, "hidden" in shown.json()) == (200, False)  # the token decides nothing here
        own = make_token(user)
        told = anyone.get(f"/api/users/{user}/stats", params=params, headers={"Cookie": f"scoreboard_token={own}"})
        assert told.json()["score"] == 7
    with shared.client(f"new-{user}") as own:
        check_problem(own.get(f"/api/users/new-{user}/stats", params=params), 404, "not_found")
        check_problem(own.get(f"/api/users/new-{user}/stats", params={"board": "none"}), 404, "not_found", "none")


@pytest.mark.parametrize("where", ["everywhere", "here"])
def test_a_group_lists_hidden_members_to_administrators_only(
    shared: Server, client: httpx.Client, board: TestBoard, where: str
) -> None:
    user = f"u-{board.name}"
    group = f"/api/boards/{board.name}/groups/g"
    members = ["a", "b", user, "z"]
    assert client.put(group, json={"members": members}).status_code == 201
    path = f"/api/users/{user}" if where == "everywhere" else f"/api/boards/{board.name}/users/{user}"
    assert client.post(f"{path}/hide").status_code == 200  # also without a score
    with shared.client() as anyone, shared.client(user) as own, shared.client("s", "scores:any boards:read") as server:
        for each in (anyone, own, server):
            told = each.get(group).json()
            assert (told["members"], told["total"], told["next"]) == (["a", "b", "z"], 3, None)
            first = each.get(group, params={"limit": 2}).json()
            assert each.get(group, params={"cursor": first["next"]}).json()["members"] == ["z"]
    told = client.get(group).json()
    assert (told["members"], told["total"]) == (members, 4)


# -- names


@pytest.mark.parametrize("scope", ["", "scores:any"])
def test_an_id_in_another_spelling_is_the_same_user(
    shared: Server, client: httpx.Client, board: TestBoard, scope: str
) -> None:
    composed, apart = f"zo\xeb-{scope[:1]}{board.name}", f"zoe\u0308-{scope[:1]}{board.name}"
    client.put(f"/api/boards/{board.name}/actions/win", json={"points": 10})
    body = {"actionId": "win", "board": board.name} | ({"userId": apart} if scope else {})
    with shared.client(apart if not scope else "game", scope) as each:
        first = each.post("/api/scores", json=body, headers={"Idempotency-Key": "k"}).json()
        assert first["userId"] == composed
        again = each.post(
            "/api/scores",
            json=body | ({"userId": composed} if scope else {}),
            headers={"Idempotency-Key": "k"},
        ).json()
        assert (again["seq"], again["replayed"]) == (first["seq"], True)
    query = {"board": board.name}
    for spelling in (composed, apart):
        assert board.stats(spelling)["userId"] == composed
        for path in (f"around/{spelling}", "users"):
            params = query | ({"ids": spelling} if path == "users" else {})
            told = client.get(f"/api/leaderboard/{path}", params=params).json()["leaderboard"]
            assert [(e["userId"], e["score"]) for e in told] == [(composed, 10)]
        assert len(client.get(f"/api/users/{spelling}/history", params=query).json()["events"]) == 1
    answer = client.put(f"/api/users/{apart}", json={"displayName": "Zoe\u0308"}).json()
    assert (answer["userId"], answer["displayName"]) == (composed, "Zo\xeb")
    group = f"/api/boards/{board.name}/groups/g"
    check_problem(client.put(group, json={"members": [composed, apart]}), 422, "invalid", "members[0]")
    assert client.put(group, json={"members": [apart]}).status_code == 201
    assert client.get(group).json()["members"] == [composed]


def test_a_display_name_is_not_another_users_id(client: httpx.Client, board: TestBoard) -> None:
    scored, hidden, accented = f"Bob-{board.name}", f"hid-{board.name}", f"Zo\xeb-{board.name}"
    board.score(scored, 1)
    board.score(accented, 1)
    client.post(f"/api/users/{hidden}/hide")

    def name(user: str, called: str) -> httpx.Response:
        return client.put(f"/api/users/{user}", json={"displayName": called})

    for called in (
        scored,
        scored.upper(),
        scored.replace("o", "\xf6"),
        hidden,
        accented,
        accented.replace("\xeb", "e"),
    ):
        refused = check_problem(name("mallory", called), 422, "invalid", called)
        assert refused["errors"][0]["field"] == "displayName"  # type: ignore[index]
    assert client.get("/api/users/mallory/stats").status_code == 404
    for own in (scored, scored.lower()):
        assert name(scored, own).json()["displayName"] == own
    assert name("mallory", f"{scored}!").status_code == 200
    # Names may be alike, and who comes later may have an id that somebody is called by.
    assert name("mallory", f"later-{board.name}").status_code == name("trudy", f"later-{board.name}").status_code == 200
    assert board.score(f"later-{board.name}", 1)["newScore"] == 1
    check_problem(name("trudy", f"LATER-{board.name}"), 422, "invalid")
    assert client.delete(f"/api/users/{accented}").status_code == 204
    assert name("mallory", accented).status_code == 200


def test_lengths_count_in_the_one_spelling(client: httpx.Client, board: TestBoard) -> None:
    long = "e\u0301" * 64
    assert board.score(long, 1)["userId"] == "é" * 64
    check_problem(client.put("/api/users/u", json={"displayName": "é" * 101}), 422, "invalid", "101")
    assert client.put("/api/users/u", json={"displayName": "e\u0301" * 100}).status_code == 200
    check_problem(client.put("/api/users/u", json={"displayName": "e\u0301" * 101}), 422, "invalid", "101")
    check_problem(client.put("/api/users/u", json={"displayName": "a" + "\u0301" * 5_000}), 422, "invalid", "5001")


ODD = ["a\u200bb", "\u202eabc", "\u2800", "\u0301", "a\u2028", "1\u200d2", "a\u200d", "a\u00ad", ".", ".."]


@pytest.mark.parametrize("odd", ODD)
def test_an_id_that_nobody_can_read_is_refused_wherever_it_comes_in(
    shared: Server, client: httpx.Client, board: TestBoard, odd: str
) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in odd.encode())
    body = {"actionId": "free", "board": board.name, "points": 1, "userId": odd}
    check_problem(client.post("/api/scores", json=body), 422, "invalid", "userId")
    batch = {"board": board.name, "submissions": [{"actionId": "free", "points": 1, "userId": odd}]}
    (result,) = client.post("/api/scores/batch", json=batch).json()["results"]
    assert (result["status"], result["code"]) == ("rejected", "invalid")
    ids = client.get("/api/leaderboard/users", params={"board": board.name, "ids": odd})
    assert check_problem(ids, 422, "invalid")["errors"][0]["field"] == "ids"  # type: ignore[index]
    group = f"/api/boards/{board.name}/groups/g"
    check_problem(client.put(group, json={"members": [odd]}), 422, "invalid", "members[0]")
    request = f"GET /api/users/{encoded}/stats HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode()
    (answer,) = parse_answers(shared.raw(request))
    assert answer.status_code == 422, answer
    with shared.client(odd) as own:
        check_problem(own.post("/api/scores", json={"actionId": "free", "board": board.name}), 401, "unauthenticated")
    name = client.put("/api/users/u", json={"displayName": odd})
    if odd in (".", ".."):
        assert name.status_code == 200  # a name is in no path
    else:
        assert check_problem(name, 422, "invalid")["errors"][0]["field"] == "displayName"  # type: ignore[index]


@pytest.mark.parametrize("dots", [".", ".."])
def test_no_board_action_or_group_is_a_step_in_a_path(shared: Server, board: TestBoard, dots: str) -> None:
    encoded = dots.replace(".", "%2E")
    token = make_token("root", "admin")
    for path in (
        f"boards/{encoded}",
        f"boards/{board.name}/actions/{encoded}",
        f"boards/{board.name}/groups/{encoded}",
    ):
        body = b'{"points": 1}' if "actions" in path else b'{"members": []}' if "groups" in path else b"{}"
        head = (
            f"PUT /api/{path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        (answer,) = parse_answers(shared.raw(head.encode() + body))
        check_problem(answer, 422, "invalid", "folder")
    check_problem(board.client.get("/api/leaderboard", params={"board": dots}), 422, "invalid", "board")


@pytest.mark.parametrize(
    "user", ["\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469\u200d\U0001f467"]
)
def test_writing_and_emoji_that_need_joiners_are_taken(client: httpx.Client, board: TestBoard, user: str) -> None:
    assert board.score(user, 1)["userId"] == user
    assert client.put(f"/api/users/{user}", json={"displayName": user}).json()["displayName"] == user


def test_nothing_names_who_was_erased_and_the_sums_stay(
    shared: Server, client: httpx.Client, board: TestBoard, module_stores: Stores
) -> None:
    user = f"forget-{board.name}"
    other = open_board(shared, client)
    for each in (board, other):
        each.score("a", 10)
        each.score(user, 7)
    body = {"board": board.name, "userId": user, "actionId": "free", "points": 1}
    assert client.post("/api/scores", json=body, headers={"Idempotency-Key": "k"}).status_code == 200
    client.put(f"/api/users/{user}", json={"displayName": f"Name of {user}"})
    with Stream(shared.stream_url(board.name)) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        resumed_from = stream.frames[0].id
        with shared.client(user) as self_service:
            assert self_service.delete(f"/api/users/{user}").status_code == 204
        stream.wait_for(lambda s: s.of("reset") and s.frames[-1].event == "leaderboard")
        assert stream.of("reset")[0].data == {"reason": "erased"}
    for each in (board, other):
        assert each.ranks() == [(1, "a", 10)]
    tables = ("ledger", "totals", "users", "periods", "boards", "players")
    for table in tables:
        assert not module_stores.query(f"SELECT 1 FROM {table} t WHERE t::text LIKE '%{user}%'"), table
    with module_stores.redis() as redis:
        for key in redis.scan_iter(f"sb:{{{board.name}}}*"):
            assert user.encode() not in redis.dump(key), key
    sums = "SELECT sum(points)::bigint, count(*) FROM ledger WHERE board_id = $1 AND kind = 'score'"
    assert tuple(module_stores.query(sums, board.name)[0]) == (18, 3)
    with Stream(shared.stream_url(board.name), last_event_id=resumed_from) as late:
        late.wait_for(lambda s: s.of("leaderboard"))
        assert not [frame for frame in late.frames if user in str(frame.data)]
    check_problem(client.delete(f"/api/users/{user}"), 404, "not_found")
    again = client.post("/api/scores", json=body, headers={"Idempotency-Key": "k"}).json()
    assert (again["newScore"], again["replayed"]) == (1, False)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/api/users/alice", 403),
        ("POST", "/api/users/alice/hide", 403),
        ("POST", "/api/users/alice/unhide", 403),
        ("DELETE", "/api/users/bob", 403),
        ("POST", "/api/boards/global/users/alice/hide", 403),
        ("POST", "/api/boards/global/users/alice/unhide", 403),
        ("POST", "/api/boards/global/events/1/revoke", 403),
    ],
)
def test_only_admins_change_users(shared: Server, public: httpx.Client, method: str, path: str, status: int) -> None:
    with shared.client("alice", "scores:any") as player:
        check_problem(player.request(method, path, json={}), status, "forbidden")
    check_problem(public.request(method, path, json={}), 401, "unauthenticated")


def test_nobody_knows_a_user_who_was_never_there(client: httpx.Client) -> None:
    for method, path in (("POST", "/unhide"), ("DELETE", "")):
        check_problem(client.request(method, f"/api/users/never-there{path}"), 404, "not_found", "never-there")
    check_problem(client.post("/api/boards/global/users/never-there/unhide"), 404, "not_found", "never-there")


# -- events made undone


def revoke(board: TestBoard, seq: int, reason: str = "a mistake") -> httpx.Response:
    return board.client.post(f"/api/boards/{board.name}/events/{seq}/revoke", json={"reason": reason})


def test_an_event_is_made_undone_once_by_another(shared: Server, board: TestBoard) -> None:
    board.score("a", 10)
    board.score("b", 7)
    with Stream(shared.stream_url(board.name)) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        first = revoke(board, 1).json()
        assert (first["points"], first["newScore"], first["revokes"], first["replayed"]) == (-10, 0, 1, False)
        assert revoke(board, 1, "once more").json() == {**first, "replayed": True}
        stream.wait_for(lambda s: s.of("score-updated"))
        assert stream.of("score-updated")[0].data["points"] == -10
    for window in WINDOWS:
        assert board.ranks(window=window) == [(1, "b", 7), (2, "a", 0)]
    history = board.client.get("/api/users/a/history", params={"board": board.name}).json()["events"]
    assert [(e["seq"], e["points"], e.get("revokes")) for e in history] == [(3, -10, 1), (1, 10, None)]
    check_problem(revoke(board, 3), 422, "invalid", "3")
    check_problem(revoke(board, 99), 404, "not_found", "99")
    check_problem(board.client.post(f"/api/boards/{board.name}/events/x/revoke", json={"reason": "r"}), 422, "invalid")


@pytest.mark.parametrize(("operator", "scores", "left"), [("best", [3, 9, 5], 5), ("last", [3, 5, 9], 5)])
def test_without_its_best_or_last_event_a_total_is_what_is_left(
    shared: Server, client: httpx.Client, operator: str, scores: list[int], left: int
) -> None:
    board = open_board(shared, client, operator=operator, windows=["all", "day"])
    told = [board.score("a", points) for points in scores]
    assert told[-1]["newScore"] == 9
    assert revoke(board, 1 + scores.index(9)).json()["newScore"] == left
    for window in WINDOWS:
        assert board.ranks(window=window) == [(1, "a", left)]


@pytest.mark.parametrize("reason", ["", " ", "a\0b", "x" * 501, 1, None])
def test_a_bad_reason_is_refused(board: TestBoard, reason: object) -> None:
    board.score("a", 10)
    answer = board.client.post(f"/api/boards/{board.name}/events/1/revoke", json={"reason": reason})
    problem = check_problem(answer, 422, "invalid")
    assert problem["errors"][0]["field"] == "reason"  # type: ignore[index]


def test_a_board_without_scores_may_still_count_otherwise(board: TestBoard) -> None:
    board.put(ties="first", operator="best")
    assert [board.score("a", points)["newScore"] for points in (3, 1)] == [3, 3]


# -- what a submission may say, and how a board counts


def test_points_within_bounds_are_for_trusted_servers_only(shared: Server, board: TestBoard) -> None:
    body = {"board": board.name, "actionId": "free", "points": 5}
    with shared.client("player") as player:
        problem = check_problem(player.post("/api/scores", json=body), 422, "invalid", "points")
        assert problem["errors"][0]["field"] == "points"  # type: ignore[index]
        check_problem(player.post("/api/scores", json={**body, "points": 10**7}), 422, "invalid")
    trusted = board.client
    check_problem(trusted.post("/api/scores", json={**body, "points": 10**6 + 1}), 422, "invalid", "1000000")
    check_problem(trusted.post("/api/scores", json={"board": board.name, "actionId": "free"}), 422, "invalid", "points")
    trusted.put(f"/api/boards/{board.name}/actions/win", json={"points": 10})
    check_problem(trusted.post("/api/scores", json={**body, "actionId": "win"}), 422, "invalid", "points")
    bounds = {"points": {"min": 5, "max": 4}}
    check_problem(trusted.put(f"/api/boards/{board.name}/actions/odd", json=bounds), 422, "invalid", "5")
    assert board.page()["seq"] == 0


def test_a_key_with_other_points_is_another_submission(board: TestBoard) -> None:
    body = {"board": board.name, "userId": f"u-{board.name}", "actionId": "free", "points": 5}
    headers = {"Idempotency-Key": "one"}
    first = board.client.post("/api/scores", json=body, headers=headers).json()
    assert board.client.post("/api/scores", json=body, headers=headers).json()["seq"] == first["seq"]
    other = board.client.post("/api/scores", json={**body, "points": 6}, headers=headers)
    check_problem(other, 422, "idempotency_mismatch")


def test_no_total_falls_below_the_floor_and_the_ledger_says_what_was_taken(
    shared: Server, client: httpx.Client
) -> None:
    board = open_board(shared, client, floor=0)
    told = [board.score("a", points) for points in (5, -8, -3, 4)]
    assert [(each["points"], each["newScore"]) for each in told] == [(5, 5), (-5, 0), (0, 0), (4, 4)]
    batch = [{"userId": "b", "actionId": "free", "points": points} for points in (2, -5, 3, -1)]
    answer = client.post("/api/scores/batch", json={"board": board.name, "submissions": batch}).json()["results"]
    assert [(each["points"], each["newScore"]) for each in answer] == [(2, 2), (-2, 0), (3, 3), (-1, 2)]


@pytest.mark.parametrize(("operator", "scores"), [("best", [3, 3, 9, 9]), ("last", [3, 1, 9, -2])])
def test_a_board_may_count_the_best_or_the_last(
    shared: Server, client: httpx.Client, operator: str, scores: list[int]
) -> None:
    board = open_board(shared, client, operator=operator, windows=["all", "day"])
    told = [board.score("a", points) for points in (3, 1, 9, -2)]
    assert [each["newScore"] for each in told] == scores
    assert sum(int(str(each["points"])) for each in told) == scores[-1]
    assert board.ranks(window="day") == [(1, "a", scores[-1])]
    answer = client.put(f"/api/boards/{board.name}", json={"operator": "sum", "windows": ["all", "day"]})
    check_problem(answer, 409, "board_not_empty", "operator")
