"""The command line: starting, stopping, being killed, settings, and the commands beside ``serve``."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from scoreboard.config import load_config
from tests.e2e.answers import check_problem
from tests.e2e.embedded import processes_of
from tests.harness import SECRET, Server, StoreFactory, Stores, Stream, make_token, wait_until

# -- embedded stores


@pytest.fixture
def start_embedded(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with embedded stores in this test's directory; no process of it is left behind."""
    data_dir = tmp_path / "data"
    started: list[Server] = []

    def start(**settings: str) -> Server:
        server = Server(data_dir=data_dir, log=tmp_path / f"server{len(started)}.log", **settings)
        started.append(server)
        return server.start()

    try:
        yield start
        for server in started:
            assert server.stop() in (0, -9), "-9: the test has killed it"
    finally:
        for server in started:
            server.kill()
        if processes_of(data_dir):  # what a killed server leaves, the next command takes over and ends
            Server(data_dir=data_dir, log=tmp_path / "last.log").run("migrate")
    assert processes_of(data_dir) == []


def bearer(server: Server, user: str, scope: str = "") -> dict[str, str]:
    made = server.run("token", "--user", user, *(["--scope", scope] if scope else []))
    assert made.returncode == 0, made.stderr
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


def test_embedded_server_keeps_its_data_over_a_restart_and_leaves_no_child(
    start_embedded: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_embedded()
    assert len(processes_of(tmp_path / "data")) >= 2
    alice = bearer(server, "alice")
    with server.client() as client:
        assert client.post("/api/scores", json={"actionId": "win"}, headers=alice).status_code == 200
        before = client.get("/api/leaderboard").json()
    assert server.stop() == 0
    assert processes_of(tmp_path / "data") == []
    again = start_embedded()
    with again.client() as client:
        assert client.get("/api/leaderboard").json() == before
        receipt = client.post("/api/scores", json={"actionId": "win"}, headers=alice).json()  # the same secret
    assert (receipt["seq"], receipt["newScore"]) == (2, 20)
    assert again.stop() == 0
    assert again.run("verify").returncode == 0
    assert processes_of(tmp_path / "data") == []


def test_killed_embedded_server_is_taken_over_with_everything_acknowledged(
    start_embedded: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_embedded()
    headers = bearer(server, "alice")
    acknowledged: list[int] = []

    def submit_until_killed() -> None:
        with server.client() as client:
            while True:
                try:
                    answer = client.post("/api/scores", json={"actionId": "win"}, headers=headers)
                except Exception:
                    return
                acknowledged.append(answer.json()["seq"])

    writer = threading.Thread(target=submit_until_killed, daemon=True)
    writer.start()
    wait_until(lambda: len(acknowledged) >= 20, what="some submissions")
    server.kill()
    writer.join(20)
    again = start_embedded()
    with again.client() as client:
        page = client.get("/api/leaderboard").json()
    assert acknowledged[-1] <= page["seq"] <= acknowledged[-1] + 1
    assert page["leaderboard"][0]["score"] == 10 * page["seq"]
    verified = again.run("verify")
    assert verified.returncode == 0, verified.stdout
    assert again.stop() == 0
    assert processes_of(tmp_path / "data") == []


def test_second_server_on_the_same_directory_is_refused(start_embedded: Callable[..., Server], tmp_path: Path) -> None:
    server = start_embedded()
    second = server.run("serve", "--port", "0")
    assert second.returncode == 2
    assert str(tmp_path / "data") in second.stderr
    assert str(server.process.pid) in second.stderr  # type: ignore[union-attr]
    assert "Traceback" not in second.stderr
    with server.client() as client:
        assert client.get("/readyz").status_code == 200


def test_embedded_server_says_where_it_keeps_things_and_listens_last(
    start_embedded: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_embedded()
    text = "\n".join(server.output)
    assert str(tmp_path / "data") in text
    assert "secret" in text
    with server.client() as client:
        client.get("/healthz")
    assert server.output[-1] == f"Listening on http://127.0.0.1:{server.port}"
    assert sum(line.startswith("Listening on") for line in server.output) == 1
    secret = next((tmp_path / "data").glob("*secret*"))
    assert secret.stat().st_mode & 0o077 == 0


def test_demo_signs_in_a_demo_user_that_can_play_and_nothing_else(start_embedded: Callable[..., Server]) -> None:
    server = start_embedded(WORKERS="2")  # whichever of them is asked knows the other's tokens
    admin = bearer(server, "root", "admin")
    with server.client() as client:
        demo = client.get("/demo").json()
        headers = {"Authorization": f"Bearer {demo['token']}"}
        action = demo["actions"][0]["actionId"]
        for _ in range(8):
            with server.client() as other:
                receipt = other.post("/api/scores", json={"actionId": action}, headers=headers).json()
                assert receipt["userId"] == demo["userId"]
        assert client.get("/demo?user=alice").status_code == 422
        assert client.put("/api/boards/quiz", json={}, headers=admin).status_code == 201
        client.put(f"/api/boards/quiz/actions/{action}", json={"points": 1}, headers=admin)
        user = demo["userId"]
        batch = {"submissions": [{"actionId": action}]}
        refused = [
            client.post("/api/scores", json={"actionId": action, "board": "quiz"}, headers=headers),
            client.post("/api/scores", json={"actionId": action, "userId": "alice"}, headers=headers),
            client.post("/api/scores", json={"actionId": action, "userId": "demo-other"}, headers=headers),
            client.post("/api/scores/batch", json=batch, headers=headers),
            client.delete(f"/api/users/{user}", headers=headers),
            client.get(f"/api/users/{user}/history", headers=headers),
            client.put("/api/boards/x", json={}, headers=headers),
            client.post(f"/api/users/{user}/hide", headers=headers),
        ]
        for answer in refused:
            check_problem(answer, 403, "forbidden")
        assert client.post(f"/api/users/{user}/hide", headers=admin).status_code == 200
        own = client.get(f"/api/users/{user}/stats", headers=headers).json()
        assert own["hidden"] is True
    # The token outlives the server, and is nothing that the operator's secret has signed.
    secret = next(Path(str(server.command()[-1])).glob("jwt_secret")).read_text().strip()
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(demo["token"], secret, algorithms=["HS256"], options={"verify_aud": False})
    assert server.stop() == 0
    with server.start().client() as client:
        assert client.post("/api/scores", json={"actionId": action}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("settings", "is_there"),
    [
        ({}, True),
        ({"DEMO": "off"}, False),
        ({"HOST": "0.0.0.0"}, False),
        ({"HOST": "0.0.0.0", "DEMO": "on"}, True),
        ({"HOST": "::1", "DEMO": "auto"}, True),
        ({"PUBLIC_READS": "false"}, False),
        ({"DATABASE_URL": "postgresql://x/y", "REDIS_URL": "redis://x", "JWT_SECRET": SECRET}, False),
        ({"DATABASE_URL": "postgresql://x/y", "REDIS_URL": "redis://x", "JWT_SECRET": SECRET, "DEMO": "on"}, True),
    ],
)
def test_where_there_is_a_demo(settings: dict[str, str], is_there: bool) -> None:
    config = load_config({f"SCOREBOARD_{name}": value for name, value in settings.items()})
    assert config.has_demo is is_there


def test_demo_signs_nobody_in_where_it_is_off(start_embedded: Callable[..., Server]) -> None:
    server = start_embedded(DEMO="off")
    with server.client() as client:
        assert client.get("/demo").status_code == 404


def test_demo_is_there_beside_any_key_where_it_is_on(start_server: Callable[..., Server]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
    settings = {"JWT_SECRET": "", "JWT_PUBLIC_KEY": public, "JWT_ALGORITHMS": "ES256", "JWT_ISSUER": "login"}
    server = start_server(**settings, DEMO="on", PUBLIC_READS="false")
    other = start_server(**settings, DEMO="on", PUBLIC_READS="false")
    claims = {"sub": "root", "exp": 2**33, "iss": "login", "scope": "admin"}
    admin = {"Authorization": f"Bearer {jwt.encode(claims, key, algorithm='ES256')}"}
    with server.client() as client, other.client() as elsewhere:
        assert client.put("/api/boards/global/actions/win", json={"points": 10}, headers=admin).status_code == 201
        assert client.put("/api/boards/quiz", json={}, headers=admin).status_code == 201
        demo = client.get("/demo").json()
        headers = {"Authorization": f"Bearer {demo['token']}"}
        assert elsewhere.post("/api/scores", json={"actionId": "win"}, headers=headers).json()["rank"] == 1
        assert elsewhere.get("/api/leaderboard", headers=headers).json()["total"] == 1
        for path in (
            "/api/leaderboard?board=quiz",
            "/api/boards/quiz",
            f"/api/users/{demo['userId']}/stats?board=quiz",
            "/api/leaderboard?b%6Fard=quiz",
            "/api/leaderboard/stream?bo%61rd=quiz",
        ):
            check_problem(elsewhere.get(path, headers=headers), 403, "forbidden", "quiz")
        listed = elsewhere.get("/api/boards", headers=headers).json()
        assert ([board["board"] for board in listed["boards"]], listed["next"]) == (["global"], None)
        assert elsewhere.get("/api/boards?after=global", headers=headers).json() == {"boards": [], "next": None}
        listed = elsewhere.get("/api/boards", headers=admin).json()
        assert [board["board"] for board in listed["boards"]] == ["global", "quiz"]
        assert client.get("/demo").headers["cache-control"] == "private, no-store"


def test_demo_signs_nobody_in_where_boards_are_private(start_embedded: Callable[..., Server]) -> None:
    server = start_embedded(PUBLIC_READS="false")
    with server.client() as client:
        assert client.get("/demo").status_code == 404
        assert client.get("/api/leaderboard").status_code == 401


def test_demo_exists_only_with_embedded_stores(server: Server) -> None:
    with server.client() as client:
        assert client.get("/demo").status_code == 404


# -- the key of digests


def hide_and_erase(server: Server, user: str) -> None:
    with server.client("root", "admin scores:any") as client:
        server.put_action("win", 10)
        for path in ("hide", ""):
            method, where = ("POST", f"/api/users/{user}/hide") if path else ("DELETE", f"/api/users/{user}")
            assert client.request(method, where).status_code in (200, 204)


DIGEST_KEYS = ("a key of digests, long enough to be one", "another key of digests, long enough too")


@pytest.mark.parametrize("key", ["", DIGEST_KEYS[0]])
def test_another_key_of_digests_is_refused_once_somebody_is_remembered(
    start_server: Callable[..., Server], key: str
) -> None:
    named = {"DIGEST_KEY": key} if key else {}
    for changed in DIGEST_KEYS:  # as long as nobody is remembered it may be changed
        assert start_server(DIGEST_KEY=changed).stop() == 0
    server = start_server(**named)
    hide_and_erase(server, "cheat")
    second = start_server(**named)
    with second.client("root", "admin scores:any") as client:
        assert client.post("/api/scores", json={"actionId": "win", "userId": "cheat"}).json()["rank"] is None
    assert [each.stop() for each in (server, second)] == [0, 0]
    hide_and_erase(start_server(**named), "cheat")
    wrong = [{"DIGEST_KEY": DIGEST_KEYS[1]}, *([{}] if key else [])]
    for settings in wrong:
        with pytest.raises(AssertionError, match="did not start") as refused:
            start_server(**settings)
        assert "SCOREBOARD_DIGEST_KEY" in str(refused.value)
        assert "Traceback" not in str(refused.value)


def test_the_key_of_digests_is_a_file_with_embedded_stores(
    start_embedded: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_embedded()
    file = tmp_path / "data" / "digest_key"
    assert file.stat().st_mode & 0o077 == 0
    admin = bearer(server, "root", "admin scores:any")
    with server.client() as client:
        assert client.post("/api/users/cheat/hide", headers=admin).status_code == 200
        assert client.delete("/api/users/cheat", headers=admin).status_code == 204
    assert server.stop() == 0
    with server.start().client() as client:
        body = {"actionId": "win", "userId": "cheat"}
        assert client.post("/api/scores", json=body, headers=admin).json()["rank"] is None
        assert client.post("/api/users/cheat/hide", headers=admin).status_code == 200
        assert client.delete("/api/users/cheat", headers=admin).status_code == 204
    assert server.stop() == 0
    file.unlink()
    looked = server.run("doctor")
    assert (looked.returncode, file.exists()) == (1, False)
    assert "MEND     digest key" in looked.stdout
    assert f"-> {file}: is not the key" in looked.stdout
    refused = server.run("serve", "--port", "0")
    assert refused.returncode == 2
    assert f"scoreboard: {file}: is not the key" in refused.stderr


# -- ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_exits_0(server: Server, number: signal.Signals) -> None:
    server.submit("alice")
    assert server.process is not None
    server.process.send_signal(number)
    assert server.process.wait(20) == 0
    assert "Traceback" not in server.log_tail()


def test_ctrl_c_drains_the_embedded_server_and_its_stores(
    start_embedded: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_embedded()
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGINT)  # as a terminal does
    assert server.process.wait(20) == 0
    assert processes_of(tmp_path / "data") == []
    assert "Traceback" not in server.log_tail()


def test_signal_during_the_start_ends_the_server_and_leaves_no_child(tmp_path: Path) -> None:
    server = Server(data_dir=tmp_path / "data", log=tmp_path / "log")
    process = subprocess.Popen(
        server.command("serve", "--port", "0"), env=server.environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun to start its stores
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait(10)
    assert processes_of(tmp_path / "data") == []


def test_readiness_is_red_while_draining(server: Server) -> None:
    seen: list[tuple[int, str]] = []
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)

        def red() -> bool:
            answer = client.get("/readyz")
            seen.append((answer.status_code, answer.json()["status"]))
            return answer.status_code == 503

        wait_until(red, within_s=5, what="a red readiness")
    assert seen[-1] == (503, "draining")
    assert server.process.wait(20) == 0


def test_submissions_under_way_are_answered_while_draining(server: Server) -> None:
    """What was sent before the listener closed gets an answer, and an answer of 200 is in the ledger."""
    answers: list[int] = []
    stop = threading.Event()

    def submit() -> None:
        with server.client("game", "scores:any") as client:
            while not stop.is_set():
                try:
                    answers.append(client.post("/api/scores", json={"actionId": "win", "userId": "u"}).status_code)
                except Exception:
                    return

    threads = [threading.Thread(target=submit, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) > 20, what="some answers")
    assert server.stop() == 0
    stop.set()
    for thread in threads:
        thread.join(20)
    assert set(answers) == {200}
    (row,) = server._stores.query("SELECT seq FROM boards WHERE board_id = 'global'")  # type: ignore[union-attr]
    assert row["seq"] == len(answers)


def test_open_stream_and_idle_connection_do_not_hold_up_the_end(server: Server) -> None:
    with server.client() as client, Stream(f"{server.url}/api/leaderboard/stream"):
        client.get("/healthz")
        with socket.create_connection(("127.0.0.1", server.port)):
            started = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started < 5


def test_half_a_request_does_not_hold_up_the_end_beyond_the_drain_time(start_server: Callable[..., Server]) -> None:
    server = start_server(DRAIN_SECONDS="1")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /api/scores HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n{")
        with server.client() as client:
            client.get("/healthz")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 5


# -- settings

REFUSED = [
    ("PORT", "abc"),
    ("PORT", "65536"),
    ("DATABASE_URL", "mysql://x/y"),
    ("REDIS_URL", "http://x"),
    ("REDIS_URL", "localhost:6379"),
    ("JWT_SECRET", "x" * 31),
    ("JWT_SECRET", "x" * 64),
    ("JWT_LEEWAY_SECONDS", "301"),
    ("JWT_LEEWAY_SECONDS", "-1"),
    ("DIGEST_KEY", "x" * 64),
    ("DIGEST_KEY", "short"),
    ("DEMO", "maybe"),
    ("JWT_ALGORITHMS", "none"),
    ("JWT_ALGORITHMS", "HS256,none"),
    ("JWT_ALGORITHMS", "HS256,RS256"),
    ("JWT_ALGORITHMS", "ROT13"),
    ("PUBLIC_READS", "maybe"),
    ("CORS_ORIGINS", "example.org"),
    ("CORS_ORIGINS", "https://example.org/path"),
    ("CORS_ORIGINS", "https://*.example"),
    ("CORS_ORIGINS", "https://a.example:99999"),
    ("CORS_ORIGINS", "https://a.example:0"),
    ("CORS_ORIGINS", "https://a.example:"),
    ("CORS_ORIGINS", "https://[::1"),
    ("CORS_ORIGINS", "https://[1:2]"),
    ("CORS_ORIGINS", "https://exämple.org"),
    ("CORS_ORIGINS", "https://user@example.org"),
    ("CORS_ORIGINS", "https://a.example,,https://b.example"),
    ("RATE_LIMIT", "100"),
    ("RATE_LIMIT", "0/60s"),
    ("RATE_LIMIT", "many"),
    ("STREAMS_MAX", "0"),
    ("STREAMS_MAX", "1e3"),
    ("STREAMS_PER_IP_MAX", "-1"),
    ("CONNECTIONS_PER_IP_MAX", "many"),
    ("AUTH_FAILURES_PER_IP_MAX", "1.5"),
    ("MISSES_PER_IP", "1000"),
    ("TRUSTED_PROXIES", "10.0.0.1/8"),
    ("TRUSTED_PROXIES", "10.0.0.0/8,,127.0.0.1"),
    ("TRUSTED_PROXIES", "loadbalancer"),
    ("METRICS_PORT", "65536"),
    ("LOG_LEVEL", "loud"),
    ("LOG_FORMAT", "xml"),
    ("DRAIN_SECONDS", "-1"),
    ("AUTO_MIGRATE", "maybe"),
    ("NO_SUCH_SETTING", "1"),
    ("JWT_SECRET_FILE", "/no/such/file"),
    ("PORT", "٣٤٥٦"),
    ("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:bad/x"),
    ("DATABASE_URL", "postgresql://[::1"),
    ("REDIS_URL", "redis://:hunter2@127.0.0.1:bad"),
    ("REDIS_URL", "redis://127.0.0.1:6379/first"),
    ("JWT_PUBLIC_KEY", "garbage"),
]


@pytest.fixture(scope="module")
def unreachable() -> Stores:
    """Stores that nobody serves: settings are refused before anything is connected."""
    return Stores("postgresql://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1/0")


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_bad_setting_refuses_to_start_and_names_itself(
    unreachable: Stores, tmp_path: Path, name: str, value: str
) -> None:
    settings = {name: value}
    if name in ("JWT_SECRET_FILE", "JWT_PUBLIC_KEY"):
        settings["JWT_SECRET"] = ""
    port = [] if name == "PORT" else ["--port", "0"]
    refused = Server(unreachable, log=tmp_path / "log", **settings).run("serve", *port)
    assert refused.returncode == 2, refused.stderr
    assert f"SCOREBOARD_{name}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "hunter2" not in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize(
    "option", [("--port", "99999"), ("--workers", "0"), ("--port", ""), ("--host", ""), ("--data-dir", "")]
)
def test_a_bad_option_names_itself_and_not_a_variable(idle: Server, option: tuple[str, str]) -> None:
    refused = idle.run("serve", *option)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"scoreboard: {option[0]}")
    assert "SCOREBOARD_" not in refused.stderr


def test_secrets_are_not_shown_when_they_are_refused(unreachable: Stores, tmp_path: Path) -> None:
    settings = {"JWT_SECRET": "tooshort-secret", "DATABASE_URL": "mysql://u:hunter2@x/y"}
    refused = Server(unreachable, log=tmp_path / "log", **settings).run("serve", "--port", "0")
    assert refused.returncode == 2
    assert "hunter2" not in refused.stderr
    assert "tooshort-secret" not in refused.stderr


@pytest.mark.parametrize("missing", ["DATABASE_URL", "REDIS_URL"])
def test_one_store_alone_refuses_to_start(unreachable: Stores, tmp_path: Path, missing: str) -> None:
    refused = Server(unreachable, log=tmp_path / "log", **{missing: ""}).run("serve", "--port", "0")
    assert refused.returncode == 2
    assert f"SCOREBOARD_{missing}" in refused.stderr


def test_production_without_a_key_refuses_to_start(unreachable: Stores, tmp_path: Path) -> None:
    refused = Server(unreachable, log=tmp_path / "log", JWT_SECRET="").run("serve", "--port", "0")
    assert refused.returncode == 2
    assert "SCOREBOARD_JWT_SECRET" in refused.stderr


def test_unreachable_database_refuses_to_start(unreachable: Stores, tmp_path: Path) -> None:
    refused = Server(unreachable, log=tmp_path / "log").run("serve", "--port", "0")
    assert refused.returncode == 2
    assert "PostgreSQL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_taken_port_refuses_to_start(stores: Stores, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = Server(stores, log=tmp_path / "log").run("serve", "--port", port)
    assert refused.returncode == 2
    assert port in refused.stderr
    assert "Traceback" not in refused.stderr


def test_secrets_are_read_from_files(stores: Stores, start_server: Callable[..., Server], tmp_path: Path) -> None:
    other = "quite another secret, long enough too"
    (tmp_path / "secret").write_text(other + "\n")
    (tmp_path / "database").write_text(stores.database_url + "\n")
    server = start_server(
        JWT_SECRET="",
        JWT_SECRET_FILE=str(tmp_path / "secret"),
        DATABASE_URL="",
        DATABASE_URL_FILE=str(tmp_path / "database"),
    )
    with server.client() as client:
        for secret, status in ((other, 404), (SECRET, 401)):
            headers = {"Authorization": f"Bearer {make_token('alice', 'admin', secret=secret)}"}
            assert client.delete("/api/boards/global/actions/none", headers=headers).status_code == status


def test_issuer_and_audience_are_checked_when_configured(start_server: Callable[..., Server]) -> None:
    server = start_server(JWT_ISSUER="login", JWT_AUDIENCE="game")
    cases = [
        ({"iss": "login", "aud": "game"}, 200),
        ({"iss": "login", "aud": ["game", "other"]}, 200),
        ({"iss": "other", "aud": "game"}, 401),
        ({"iss": "login", "aud": "other"}, 401),
        ({"iss": "login"}, 401),
        ({"aud": "game"}, 401),
        ({}, 401),
    ]
    with server.client() as client:
        for claims, status in cases:
            headers = {"Authorization": f"Bearer {make_token('alice', **claims)}"}  # type: ignore[arg-type]
            answer = client.get("/api/users/alice/history", headers=headers)
            assert answer.status_code == status, claims
        made = server.run("token", "--user", "alice").stdout.strip()
        headers = {"Authorization": f"Bearer {made}"}
        assert client.get("/api/users/alice/history", headers=headers).status_code == 200


def test_only_the_configured_algorithm_is_accepted(start_server: Callable[..., Server]) -> None:
    secret = "quite another secret, that is long enough for every algorithm of its kind"
    server = start_server(JWT_SECRET=secret, JWT_ALGORITHMS="HS512")
    claims = {"sub": "alice", "exp": int(time.time()) + 60}
    with server.client() as client:
        for algorithm, status in (("HS512", 200), ("HS256", 401)):
            headers = {"Authorization": f"Bearer {jwt.encode(claims, secret, algorithm=algorithm)}"}
            assert client.get("/api/users/alice/history", headers=headers).status_code == status


def test_allowed_origin_may_read_answers(start_server: Callable[..., Server]) -> None:
    server = start_server(CORS_ORIGINS="https://game.example")
    with server.client() as client:
        ours = client.get("/api/leaderboard", headers={"Origin": "https://game.example"})
        theirs = client.get("/api/leaderboard", headers={"Origin": "https://evil.example"})
        asked = client.options(
            "/api/scores",
            headers={
                "Origin": "https://game.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
            },
        )
    assert ours.headers["access-control-allow-origin"] == "https://game.example"
    assert "access-control-allow-origin" not in theirs.headers
    assert asked.status_code in (200, 204)
    assert asked.headers["access-control-allow-origin"] == "https://game.example"
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "idempotency-key" in asked.headers["access-control-allow-headers"].lower()


# -- commands


@pytest.fixture(scope="module")
def idle(store_factory: StoreFactory, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Commands without a server and without stores that answer."""
    stores = Stores("postgresql://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1/0")
    return Server(stores, log=tmp_path_factory.mktemp("idle") / "log")


@pytest.mark.parametrize("command", [[], ["serve"], ["migrate"], ["token"], ["verify"], ["rebuild"]])
def test_help_is_there_for_every_command(idle: Server, command: list[str]) -> None:
    shown = idle.run(*command, "--help")
    assert shown.returncode == 0
    assert "usage: scoreboard" in shown.stdout


def test_token_is_signed_with_the_configured_secret(idle: Server) -> None:
    made = idle.run("token", "--user", "älice", "--scope", "admin scores:any", "--ttl", "60")
    assert made.returncode == 0
    claims = jwt.decode(made.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["scope"]) == ("älice", "admin scores:any")
    assert 50 <= claims["exp"] - time.time() <= 61


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--user", ""],
        ["--user", "u" * 65],
        ["--user", "a\nb"],
        ["--user", "a", "--ttl", "0"],
        ["--user", "a", "--ttl", "x"],
        ["--user", "a\u200b"],
        ["--user", ".."],
        ["--user", "a", "--scope", "root"],
        ["--user", "a", "--scope", "admin,scores:any"],
        ["--user", "a", "--scope", "admin scores:all"],
    ],
)
def test_bad_token_arguments_are_refused(idle: Server, arguments: list[str]) -> None:
    refused = idle.run("token", *arguments)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr
    assert "_seconds" not in refused.stderr  # no name of a function


def test_migrate_from_four_processes_at_once_is_safe(stores: Stores, tmp_path: Path) -> None:
    server = Server(stores, log=tmp_path / "log")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: server.run("migrate"), range(4)))
    assert [result.returncode for result in results] == [0] * 4, [result.stderr for result in results]
    applied = [line for result in results for line in result.stdout.splitlines() if line.startswith("Applied")]
    assert len(applied) == len(set(applied)) >= 1
    assert stores.query("SELECT seq FROM boards WHERE board_id = 'global'")[0]["seq"] == 0


def test_two_servers_starting_at_once_on_an_empty_database_both_come_up(stores: Stores, tmp_path: Path) -> None:
    servers = [Server(stores, log=tmp_path / f"log{number}") for number in range(2)]
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda server: server.start(), servers))
        servers[0].put_action("win", 10)
        assert [server.submit("alice").json()["newScore"] for server in servers] == [10, 20]
        assert [server.stop() for server in servers] == [0, 0]
    finally:
        for server in servers:
            server.kill()


def test_verify_says_that_all_is_well(server: Server) -> None:
    for user in ("alice", "bob"):
        server.submit(user)
    verified = server.run("verify")
    assert (verified.returncode, "Traceback" in verified.stderr) == (0, False)
    listed = server.run("verify", "--json")
    document = json.loads(listed.stdout)
    assert listed.returncode == 0
    assert (document["ok"], document["differences"]) == (True, [])


def test_verify_lists_a_ranking_that_differs(server: Server, stores: Stores) -> None:
    for user in ("alice", "bob"):
        server.submit(user)
    with stores.redis() as redis:
        redis.zincrby("sb:{global}:all", -7, "bob")
    verified = server.run("verify")
    assert verified.returncode == 1
    assert "global" in verified.stdout
    assert "'bob'" in verified.stdout
    assert "17" in verified.stdout
    assert "'alice'" not in verified.stdout
    document = json.loads(server.run("verify", "--json").stdout)
    assert document["ok"] is False
    assert [difference["board"] for difference in document["differences"]] == ["global"]


@pytest.mark.parametrize("change", ["extra", "missing"])
def test_verify_lists_users_who_are_only_in_one_place(server: Server, stores: Stores, change: str) -> None:
    server.submit("alice")
    server.submit("bob")
    assert server.stop() == 0  # a server would notice the number of entries and rebuild
    with stores.redis() as redis:
        if change == "extra":
            redis.zadd("sb:{global}:all", {"ghost": -5})
        else:
            redis.zrem("sb:{global}:all", "bob")
    verified = server.run("verify")
    assert (verified.returncode, verified.stderr) == (1, "")
    assert ("'ghost'" if change == "extra" else "'bob'") in verified.stdout
    assert "'alice'" not in verified.stdout


def test_verify_lists_a_total_that_differs(server: Server, stores: Stores) -> None:
    server.submit("alice")
    stores.query("UPDATE totals SET score = score + 3 WHERE user_id = 'alice'")
    verified = server.run("verify")
    assert verified.returncode == 1
    assert "'alice'" in verified.stdout


def test_verify_lists_a_gap_in_the_ledger(server: Server, stores: Stores) -> None:
    for _ in range(3):
        server.submit("alice")
    stores.query("DELETE FROM ledger WHERE seq = 2")
    verified = server.run("verify")
    assert verified.returncode == 1
    assert "global" in verified.stdout


def test_verify_beside_a_busy_server_finds_nothing(server: Server) -> None:
    stop = threading.Event()

    def submit() -> None:
        with server.client("game", "scores:any") as client:
            number = 0
            while not stop.is_set():
                number += 1
                client.post("/api/scores", json={"actionId": "win", "userId": f"u{number % 20}"})

    writer = threading.Thread(target=submit, daemon=True)
    writer.start()
    try:
        verified = server.run("verify")
        assert verified.returncode == 0, verified.stdout
    finally:
        stop.set()
        writer.join(20)


def test_verify_without_stores_says_why(idle: Server) -> None:
    verified = idle.run("verify")
    assert verified.returncode == 2
    assert "Traceback" not in verified.stderr


def test_rebuild_while_serving_mends_the_ranking(server: Server, stores: Stores) -> None:
    for user in ("alice", "bob"):
        server.submit(user)
    with stores.redis() as redis:
        redis.zincrby("sb:{global}:all", -7, "bob")
        redis.zadd("sb:{global}:all", {"ghost": -5})
    stop = threading.Event()
    statuses: list[int] = []

    def submit() -> None:
        with server.client("carol") as client:
            while not stop.is_set():
                statuses.append(client.post("/api/scores", json={"actionId": "win"}).status_code)

    writer = threading.Thread(target=submit, daemon=True)
    writer.start()
    try:
        wait_until(lambda: len(statuses) > 5, what="some submissions")
        rebuilt = server.run("rebuild")
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert "global" in rebuilt.stdout
    finally:
        stop.set()
        writer.join(20)
    assert set(statuses) == {200}
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout


def test_rebuild_with_a_new_epoch_tells_readers_that_history_was_replaced(
    start_server: Callable[..., Server], stores: Stores
) -> None:
    """The database came back from a backup while Redis was lost and no server ran: nothing can tell by itself."""
    server = start_server()
    server.put_action("win", 10)
    server.submit("alice")
    with Stream(server.stream_url()) as stream:
        last = stream.wait_for(lambda s: s.last_id).last_id
    assert server.stop() == 0
    with stores.redis() as redis:
        redis.flushdb()
    rebuilt = server.run("rebuild", "--new-epoch", "--board", "global")
    assert (rebuilt.returncode, rebuilt.stdout) == (0, "Rebuilt the ranking of board global\n"), rebuilt.stderr
    assert server.run("verify").returncode == 0
    server.start()
    assert last is not None
    with server.client() as client:
        assert client.get("/api/leaderboard").json()["epoch"] != last.rpartition("-")[0]
    with Stream(server.stream_url(), last_event_id=last) as stream:
        stream.wait_for(lambda s: s.of("reset") and s.of("leaderboard"))


def test_rebuild_of_an_unknown_board_is_refused(server: Server) -> None:
    refused = server.run("rebuild", "--board", "no-such")
    assert refused.returncode == 2
    assert "no-such" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_streams_follow_a_rebuild(server: Server, stores: Stores) -> None:
    server.submit("alice")
    server.submit("bob")
    with Stream(f"{server.url}/api/leaderboard/stream") as stream:
        stream.wait_for(lambda s: s.frames)
        with stores.redis() as redis:
            redis.zincrby("sb:{global}:all", -7, "bob")
        assert server.run("rebuild").returncode == 0
        receipt = server.submit("alice").json()
        stream.wait_for_seq(receipt["seq"])
        top = stream.wait_for(lambda s: len(s.of("leaderboard")) >= 2).of("leaderboard")[-1]
        assert [(e["userId"], e["score"]) for e in top.data["top10"]] == [("alice", 20), ("bob", 10)]  # type: ignore[attr-defined]


# -- operations


def test_operations_answer(server: Server) -> None:
    with server.client() as client:
        assert client.get("/healthz").status_code == 200
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert set(ready.json()["dependencies"]) == {"postgresql", "redis"}
        metrics = client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain")
        assert re.search(r"^# TYPE \w+ (counter|gauge|histogram)$", metrics.text, re.MULTILINE)
        for path in ("/docs", "/"):
            page = client.get(path)
            assert page.headers["content-type"].startswith("text/html")
            assert not re.search(r"(src|href)=\"(https?:)?//", page.text), "works without internet"


def test_openapi_describes_the_routes_that_exist(server: Server) -> None:
    with server.client() as client:
        document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {
        "/api/scores",
        "/api/leaderboard",
        "/api/leaderboard/stream",
        "/api/users/{userId}/stats",
        "/api/users/{userId}/history",
        "/api/boards",
    } <= set(document["paths"])
    assert "post" in document["paths"]["/api/scores"]


def test_version_is_shown(idle: Server) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "scoreboard", "--version"], capture_output=True, text=True, timeout=30
    )
    assert re.fullmatch(r"scoreboard \d+\.\d+\S*\n", shown.stdout)
