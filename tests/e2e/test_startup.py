"""What refuses a start: URLs, certificates, passwords, roles, standbys. Exit 2 and one sentence, without a secret."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scoreboard import migrations
from scoreboard.config import load_config
from scoreboard.contracts import load_migrations
from scoreboard.errors import StartupError
from tests.harness import SECRET, Server, Stores
from tests.own_stores import OwnPostgres, OwnValkey

COMMANDS = [
    ["serve", "--port", "0"],
    ["verify"],
    ["migrate"],
    ["rebuild"],
    ["export", "--board", "global"],
]
NOBODY_POSTGRES = "postgresql://nobody:hunter2@127.0.0.1:1/none"
NOBODY_REDIS = "redis://:hunter2@127.0.0.1:1/0"


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[..., str]:
    """Run a command that has to be refused; the sentence."""

    def run(stores: Stores, *command: str, **settings: str) -> str:
        refused = Server(stores, log=tmp_path / "log", **settings).run(*(command or COMMANDS[0]))
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
        return sentence(refused.stderr)

    return run


def sentence(errors: str) -> str:
    """The one line that a refused command says; log lines come beside it."""
    lines = [line for line in errors.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("scoreboard: ")
    assert "hunter2" not in errors
    return lines[0]


def refused_settings(**settings: str) -> str:
    """Why settings are refused, which comes before all else that a command does."""
    given = {"DATABASE_URL": NOBODY_POSTGRES, "REDIS_URL": NOBODY_REDIS, "JWT_SECRET": SECRET} | settings
    with pytest.raises(StartupError) as refused:
        load_config({f"SCOREBOARD_{name}": value for name, value in given.items()})
    return sentence(f"scoreboard: {refused.value}")


# -- URLs


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["verify"], ["doctor"]], ids=lambda command: command[0])
def test_an_unknown_parameter_refuses_every_command(
    refuse: Callable[..., str], stores: Stores, command: list[str]
) -> None:
    """A server with such a URL of Redis would start, and fail at each answer."""
    said = refuse(stores, *command, REDIS_URL="redis://127.0.0.1:1?foo=bar")
    assert said == "scoreboard: SCOREBOARD_REDIS_URL: there is no parameter 'foo' (redis:// takes none)"


@pytest.mark.parametrize(
    ("name", "url", "told"),
    [
        ("REDIS_URL", "redis://127.0.0.1:1?foo=bar", "'foo'"),
        ("REDIS_URL", "redis://127.0.0.1:1/0?db=3", "redis://host:6379/0"),
        ("REDIS_URL", "redis://127.0.0.1:1?ssl_ca_certs=/x", "rediss://"),
        ("REDIS_URL", "rediss://127.0.0.1:1?ssl_cert_reqs=none", "'ssl_cert_reqs'"),
        ("REDIS_URL", "rediss://127.0.0.1:1?password=hunter2", "'password'"),
        ("REDIS_URL", "unix:///run/redis.sock?foo=bar", "'foo'"),
        ("REDIS_URL", "unix:///run/redis.sock?db=first", "'first'"),
        ("REDIS_URL", "unix:///run/redis.sock?db=0&db=1", "twice"),
        ("REDIS_URL", "unix:///run/redis.sock?db=", "no value"),
        ("REDIS_URL", "unix:///run/redis.sock?db", "name=value"),
        ("REDIS_URL", "unix://run/redis.sock", "unix:///run/redis.sock"),
        ("REDIS_URL", "redis://:hun#ter2@127.0.0.1:1/0", "%23"),
        ("DATABASE_URL", f"{NOBODY_POSTGRES}?foo=bar", "'foo'"),
        ("DATABASE_URL", f"{NOBODY_POSTGRES}?sslmod=require", "'sslmod'"),
        ("DATABASE_URL", f"{NOBODY_POSTGRES}?sslmode=on", "verify-full"),
        ("DATABASE_URL", f"{NOBODY_POSTGRES}?target_session_attrs=master", "read-write"),
        ("DATABASE_URL", f"{NOBODY_POSTGRES}?connect_timeout=3", "'connect_timeout'"),
        ("DATABASE_URL", f"{NOBODY_POSTGRES}?options=-cjit%3Doff", "ALTER ROLE"),
        ("DATABASE_URL", f"{NOBODY_POSTGRES}?port=five", "port"),
        ("DATABASE_URL", "postgresql://u:hun#ter2@127.0.0.1:1/x", "%23"),
        ("DATABASE_URL", f"{NOBODY_POSTGRES}?passfile=/no/such/file", "'/no/such/file'"),
    ],
)
def test_what_a_url_can_not_have_is_refused_and_named(name: str, url: str, told: str) -> None:
    said = refused_settings(**{name: url})
    assert f"SCOREBOARD_{name}: " in said
    assert told in said
    assert "ter2" not in said


def test_what_a_url_can_have_is_taken(stores: Stores, tmp_path: Path) -> None:
    parameters = "application_name=ours&target_session_attrs=read-write"
    joint = "&" if "?" in stores.database_url else "?"
    taken = Server(stores, log=tmp_path / "log", DATABASE_URL=f"{stores.database_url}{joint}{parameters}").run("verify")
    assert taken.returncode == 0, taken.stderr


# -- keys


ALGORITHMS = "ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"JWT_ALGORITHMS": "HS257"}, f"there is no algorithm 'HS257'; there are {ALGORITHMS}"),
        ({"JWT_ALGORITHMS": "hs256"}, f"there is no algorithm 'hs256'; there are {ALGORITHMS}"),
        ({"JWT_ALGORITHMS": "none"}, f"there is no algorithm 'none'; there are {ALGORITHMS}"),
        ({"JWT_ALGORITHMS": "HS256,,HS256"}, "a name is missing beside a comma in 'HS256,,HS256'"),
        ({"JWT_ALGORITHMS": "HS256,RS256"}, "mixes shared secrets (HS256, HS384, HS512) and key pairs"),
        ({"JWT_ALGORITHMS": "RS256"}, "RS256 does not go with a shared secret; name some of HS256, HS384, HS512"),
        ({"JWT_SECRET": "x" * 40}, "SCOREBOARD_JWT_SECRET: is one character, repeated"),
        ({"JWT_SECRET": "xy" * 20}, "SCOREBOARD_JWT_SECRET: has only 2 different bytes"),
        ({"JWT_SECRET": "x"}, "SCOREBOARD_JWT_SECRET: has 1 byte, fewer than 32"),
    ],
)
def test_a_bad_key_or_algorithm_says_what_would_be_right(settings: dict[str, str], told: str) -> None:
    assert told in refused_settings(**settings)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("JWT_SECRET", None, "can't be read: No such file or directory"),
        ("JWT_SECRET", b"\xff" * 40, "can't be read: it is not text in UTF-8"),
        ("JWT_SECRET", b"", "is empty"),
        ("JWT_SECRET", b" \n", "is empty"),
        ("JWT_SECRET", b"short", "has 5 bytes, fewer than 32"),
        ("JWT_PUBLIC_KEY", b"garbage", "is not a key for RS256"),
        ("DIGEST_KEY", b"short", "has 5 bytes, fewer than 32"),
        ("DATABASE_URL", b"mysql://x/y", "not one of postgresql"),
        ("PORT", b"many", "'many' is not a whole number"),
    ],
)
def test_what_is_wrong_in_a_file_names_the_setting_that_names_the_file(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    """An empty one, too: whoever mounts a secret means it, and would have the default instead."""
    file = tmp_path / "mounted"
    if content is not None:
        file.write_bytes(content)
    unset = {"JWT_SECRET": ""} if name == "JWT_PUBLIC_KEY" else {}
    said = refused_settings(**{**unset, name: "", f"{name}_FILE": str(file)})
    assert said.startswith(f"scoreboard: SCOREBOARD_{name}_FILE: ")
    assert told in said
    assert "Errno" not in said


def test_an_empty_variable_counts_as_not_set() -> None:
    environment = {"DATABASE_URL": "", "JWT_SECRET": "", "JWT_SECRET_FILE": "", "PORT": "", "DATA_DIR": ""}
    config = load_config({f"SCOREBOARD_{name}": value for name, value in environment.items()})
    assert config == load_config({})


# -- certificates


class Certificates:
    """Files of two authorities, and a key that belongs to neither."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.ca_key = self._make(folder / "ca.pem", folder / "ca.key")
        self.other, self.other_key = self._make(folder / "other.pem", folder / "other.key")
        self.garbage = folder / "garbage.pem"
        self.garbage.write_text("no certificate at all\n")
        self.missing = folder / "missing.pem"

    @staticmethod
    def _make(path: Path, key_path: Path) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return path, key_path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("store", "parameters", "culprit", "file"),
    [
        ("postgres", "sslmode=verify-full&sslrootcert={missing}", "sslrootcert", "missing"),
        ("postgres", "sslmode=verify-full&sslrootcert={garbage}", "sslrootcert", "garbage"),
        ("postgres", "sslmode=verify-full&sslrootcert={ca_key}", "sslrootcert", "ca_key"),
        ("postgres", "sslcrl={missing}", "sslcrl", "missing"),
        ("postgres", "sslcert={missing}&sslkey={ca_key}", "sslcert", "missing"),
        ("postgres", "sslcert={ca}&sslkey={missing}", "sslkey", "missing"),
        ("postgres", "sslcert={ca}&sslkey={garbage}", "sslkey", "garbage"),
        ("postgres", "sslcert={ca}&sslkey={other_key}", "sslkey", "other_key"),
        ("postgres", "sslkey={ca_key}", "sslkey", None),
        ("redis", "ssl_ca_certs={missing}", "ssl_ca_certs", "missing"),
        ("redis", "ssl_ca_certs={garbage}", "ssl_ca_certs", "garbage"),
        ("redis", "ssl_certfile={garbage}&ssl_keyfile={ca_key}", "ssl_certfile", "garbage"),
        ("redis", "ssl_certfile={ca}&ssl_keyfile={other_key}", "ssl_keyfile", "other_key"),
        ("redis", "ssl_certfile={ca}&ssl_keyfile={missing}", "ssl_keyfile", "missing"),
        ("redis", "ssl_certfile={ca}", "ssl_certfile", "ca"),
        ("redis", "ssl_keyfile={ca_key}", "ssl_keyfile", None),
    ],
)
def test_a_wrong_certificate_setting_says_which(
    certificates: Certificates, store: str, parameters: str, culprit: str, file: str | None
) -> None:
    query = parameters.format(**vars(certificates))
    name, url = {
        "postgres": ("DATABASE_URL", f"{NOBODY_POSTGRES}?{query}"),
        "redis": ("REDIS_URL", f"rediss://:hunter2@127.0.0.1:1/0?{query}"),
    }[store]
    said = refused_settings(**{name: url})
    assert f"SCOREBOARD_{name}: {culprit}" in said
    assert file is None or repr(str(getattr(certificates, file))) in said


def test_certificates_that_fit_are_taken_and_the_host_is_looked_for(
    refuse: Callable[..., str], certificates: Certificates
) -> None:
    query = f"sslmode=verify-full&sslrootcert={certificates.ca}&sslcert={certificates.ca}&sslkey={certificates.ca_key}"
    assert "127.0.0.1:1 can't be reached" in refuse(Stores(f"{NOBODY_POSTGRES}?{query}", NOBODY_REDIS))


@contextmanager
def tls_server(certificates: Certificates, *, asks_first: bool) -> Iterator[int]:
    """A server that is whom the authority ``ca`` says, and hangs up after the handshake.

    :param asks_first: whether clients ask for TLS in the clear first, as PostgreSQL's do.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.ca, certificates.ca_key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    if asks_first:
                        connection.recv(8)
                        connection.sendall(b"S")
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_a_database_whose_certificate_is_not_trusted_is_refused_and_named(
    refuse: Callable[..., str], certificates: Certificates
) -> None:
    with tls_server(certificates, asks_first=True) as port:
        url = f"postgresql://u:hunter2@localhost:{port}/x?sslmode=verify-full&sslrootcert={certificates.other}"
        said = refuse(Stores(url, NOBODY_REDIS))
    assert f"certificate of PostgreSQL at localhost:{port} is not trusted" in said
    assert "sslrootcert" in said


def test_a_redis_whose_certificate_is_not_trusted_is_named(
    stores: Stores, refuse: Callable[..., str], certificates: Certificates, start_server: Callable[..., Server]
) -> None:
    with tls_server(certificates, asks_first=False) as port:
        url = f"rediss://:hunter2@localhost:{port}/0?ssl_ca_certs={certificates.other}"
        said = refuse(stores, "verify", REDIS_URL=url)
        assert f"certificate of Redis at localhost:{port} is not trusted" in said
        assert "ssl_ca_certs" in said
        server = start_server(REDIS_URL=url)  # without Redis it serves all the same, and says so
        assert f"certificate of Redis at localhost:{port} is not trusted" in server.log_tail()
        assert "hunter2" not in server.log_tail()
        with server.client() as client:
            assert client.get("/readyz").json()["status"] == "degraded"
        server.kill()


# -- who is not let in, and where nobody is


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    """A PostgreSQL with an up-to-date database ``ready``, an empty one ``fresh``, and roles."""
    with OwnPostgres() as own:
        hba = own.data / "pg_hba.conf"
        hba.write_text(f"local all locked scram-sha-256\nlocal all nowhere reject\n{hba.read_text()}")
        own.psql("SELECT pg_reload_conf()")
        for statement in (
            "CREATE ROLE locked LOGIN PASSWORD 'right'",
            "CREATE ROLE nowhere LOGIN",
            "CREATE ROLE owner LOGIN",
            "CREATE ROLE writer LOGIN",
            "CREATE ROLE reader LOGIN",
            "CREATE ROLE blind LOGIN",
            "CREATE ROLE timid LOGIN",
            "ALTER ROLE timid SET default_transaction_read_only = on",
            "CREATE DATABASE ready OWNER owner",
            "CREATE DATABASE fresh",
            "CREATE DATABASE older OWNER owner",
        ):
            own.psql(statement)
        yield own


@pytest.fixture(scope="module")
def valkey() -> Iterator[OwnValkey]:
    with OwnValkey() as own:
        yield own


@pytest.fixture(scope="module")
def url_of(
    postgres: OwnPostgres, valkey: OwnValkey, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Stores]:
    """URLs of a role and a database; ``ready`` was migrated by its owner."""

    def url(role: str, database: str) -> Stores:
        return Stores(f"postgresql://{role}@/{database}?host={postgres.folder}", valkey.url)

    for database in ("ready", "older"):
        migrated = Server(url("owner", database), log=tmp_path_factory.mktemp("ready") / "log").run("migrate")
        assert migrated.returncode == 0, migrated.stderr
    for role, privileges in (("writer", "SELECT, INSERT, UPDATE, DELETE"), ("reader", "SELECT"), ("timid", "SELECT")):
        postgres.psql(f"GRANT {privileges} ON ALL TABLES IN SCHEMA public TO {role}", "ready")
    postgres.psql("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO timid", "ready")
    last = load_migrations()[-1]
    postgres.psql(f"DELETE FROM schema_migrations WHERE version = {last.version}", "older")
    postgres.psql("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO writer", "older")
    return url


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_unknown_database_is_told(
    refuse: Callable[..., str], url_of: Callable[[str, str], Stores], command: list[str]
) -> None:
    assert 'database "nowhere" does not exist' in refuse(url_of("writer", "nowhere"), *command)


def test_who_is_not_let_in_is_told(
    refuse: Callable[..., str], url_of: Callable[[str, str], Stores], postgres: OwnPostgres, valkey: OwnValkey
) -> None:
    wrong = f"postgresql://locked:hunter2@/ready?host={postgres.folder}"
    assert 'password authentication failed for user "locked"' in refuse(Stores(wrong, valkey.url))
    assert 'role "ghost" does not exist' in refuse(url_of("ghost", "ready"))
    assert "pg_hba.conf" in refuse(url_of("nowhere", "ready"))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/x", "127.0.0.1:1 can't be reached"),
        ("postgresql://u:hunter2@no-such-host.invalid/x", "no-such-host.invalid can't be reached"),
        ("postgresql://u:hunter2@/x?host=/no/such/folder", "/no/such/folder can't be reached"),
        ("postgresql://u:hunter2@127.0.0.1:99999/x", "127.0.0.1:99999"),
    ],
)
def test_a_database_that_is_not_there_is_told(refuse: Callable[..., str], url: str, told: str) -> None:
    assert told in refuse(Stores(url, NOBODY_REDIS))


@pytest.mark.parametrize("command", [["verify"], ["rebuild"]], ids=lambda command: command[0])
def test_commands_that_need_redis_say_where_it_is_not(
    refuse: Callable[..., str], stores: Stores, command: list[str]
) -> None:
    assert "Redis at 127.0.0.1:1 can't be reached" in refuse(Stores(stores.database_url, NOBODY_REDIS), *command)


def test_a_redis_that_does_not_let_us_in_refuses_the_start(refuse: Callable[..., str], stores: Stores) -> None:
    with OwnValkey() as locked, locked.client() as client:
        client.acl_setuser("pinned", enabled=True, passwords=["+right"], commands=["+@all"], keys=["sb:*"])
        wrong = f"unix://pinned:hunter2@{locked.socket}"
        for command in (COMMANDS[0], ["verify"]):
            said = refuse(Stores(stores.database_url, wrong), *command)
            assert f"Redis at {locked.socket} does not let us in" in said
        assert "refuses" in refuse(Stores(stores.database_url, f"{locked.url}?db=99"))


# -- schemas and roles


def test_serve_by_a_role_that_may_only_read_and_write_rows_works_after_migrate(
    url_of: Callable[[str, str], Stores], postgres: OwnPostgres, tmp_path: Path
) -> None:
    assert postgres.psql("SELECT has_schema_privilege('writer', 'public', 'CREATE')", "ready") == "f"
    server = Server(url_of("writer", "ready"), log=tmp_path / "log").start()
    try:
        server.put_action("win", 10)
        assert server.submit("alice").json()["newScore"] == 10
        with server.client("admin", "admin") as admin:
            assert admin.put("/api/boards/quiz", json={"title": "Quiz", "windows": ["all", "day"]}).status_code == 201
            assert admin.put("/api/users/alice", json={"displayName": "Alice"}).status_code == 200
            assert admin.delete("/api/users/alice").status_code in (200, 204)
        assert server.stop() == 0
    finally:
        server.kill()
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize(
    ("command", "auto"), [*((command, "true") for command in COMMANDS), (COMMANDS[0], "false"), (COMMANDS[1], "false")]
)
def test_with_the_schema_up_to_date_no_command_runs_ddl(
    url_of: Callable[[str, str], Stores], postgres: OwnPostgres, tmp_path: Path, command: list[str], auto: str
) -> None:
    """By the owner too, who could."""
    postgres.psql("ALTER SYSTEM SET log_statement = 'ddl'")
    postgres.psql("SELECT pg_reload_conf()")
    commands = Server(url_of("owner", "ready"), log=tmp_path / "log", AUTO_MIGRATE=auto)
    log = postgres.folder / "log"
    before = len(log.read_bytes())
    if command[0] == "serve":
        assert commands.start().stop() == 0
    else:
        done = commands.run(*command)
        assert done.returncode == 0, done.stderr
    said = log.read_bytes()[before:].decode()
    assert "LOG:  statement: " not in said, said
    assert "ERROR" not in said, said


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_older_schema_that_a_role_can_not_change_names_migrate(
    refuse: Callable[..., str], url_of: Callable[[str, str], Stores], command: list[str]
) -> None:
    assert "scoreboard migrate" in refuse(url_of("writer", "older"), *command)
    assert "scoreboard migrate" in refuse(url_of("writer", "fresh"), *command)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] != "migrate"], ids=lambda command: command[0])
def test_an_older_schema_is_refused_where_only_migrate_may_change_it(
    refuse: Callable[..., str], url_of: Callable[[str, str], Stores], command: list[str]
) -> None:
    said = refuse(url_of("owner", "older"), *command, AUTO_MIGRATE="false")
    assert load_migrations()[-1].name in said
    assert "scoreboard migrate" in said


def test_a_role_that_can_not_write_is_refused_by_serve_and_may_export(
    refuse: Callable[..., str], url_of: Callable[[str, str], Stores], tmp_path: Path
) -> None:
    said = refuse(url_of("reader", "ready"))
    assert "reader has no INSERT, UPDATE, DELETE on actions" in said
    assert "GRANT" in said
    assert "read-only for timid" in refuse(url_of("timid", "ready"))
    exported = Server(url_of("reader", "ready"), log=tmp_path / "log").run("export", "--board", "global")
    assert exported.returncode == 0, exported.stderr


@pytest.mark.parametrize("command", [COMMANDS[0], ["verify"]], ids=lambda command: command[0])
def test_where_the_schema_is_there_a_role_without_rights_is_told_the_grant(
    refuse: Callable[..., str], url_of: Callable[[str, str], Stores], command: list[str]
) -> None:
    """Not to run ``scoreboard migrate``, which was done."""
    said = refuse(url_of("blind", "ready"), *command)
    assert "schema_migrations" in said
    assert said.endswith("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO blind")


@pytest.mark.parametrize("command", [COMMANDS[0], ["migrate"], ["import"]], ids=lambda command: command[0])
def test_a_database_of_another_encoding_is_refused(
    refuse: Callable[..., str],
    url_of: Callable[[str, str], Stores],
    postgres: OwnPostgres,
    tmp_path: Path,
    command: list[str],
) -> None:
    """Names in other scripts would be 500s there, and some boards could not be read at all."""
    for encoding in ("LATIN1", "SQL_ASCII"):
        name = f"{encoding}_{command[0]}".lower()
        postgres.psql(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        (tmp_path / "scores.csv").write_text("ann,1\n")
        more = ["--csv", "--board", "season", str(tmp_path / "scores.csv")] if command == ["import"] else []
        said = refuse(url_of("postgres", name), *command, *more)
        assert f"has the encoding {encoding}" in said
        assert "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0" in said
        assert postgres.psql("SELECT to_regclass('boards') IS NULL", name) == "t"


def test_a_board_can_be_moved_away_from_a_database_of_another_encoding(
    refuse: Callable[..., str], url_of: Callable[[str, str], Stores], postgres: OwnPostgres, tmp_path: Path
) -> None:
    postgres.psql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "ENCODING", "LATIN1")
        asyncio.run(migrations.migrate(url_of("postgres", "latin").database_url))
    assert "has the encoding LATIN1" in refuse(url_of("postgres", "latin"))
    exported = Server(url_of("postgres", "latin"), log=tmp_path / "log").run("export", "--board", "global")
    assert exported.returncode == 0, exported.stderr


def test_tables_that_the_planner_can_not_get_to_know_are_told_once_a_run_and_not_by_what_only_reads(
    url_of: Callable[[str, str], Stores], postgres: OwnPostgres, tmp_path: Path
) -> None:
    (tmp_path / "scores.csv").write_text("ann,1\n")
    load = ["import", "--csv", "--board", "once", str(tmp_path / "scores.csv")]
    commands = Server(url_of("writer", "ready"), log=tmp_path / "log")
    told = {}
    for command in (["verify"], ["rebuild"], ["export", "--board", "global"], load):
        # Rows of which the planner knows nothing, as after a restore.
        postgres.psql("DELETE FROM pg_statistic WHERE starelid = ANY ('{boards,ledger,totals}'::regclass[])", "ready")
        done = commands.run(*command)
        assert done.returncode == 0, done.stderr
        told[command[0]] = done.stderr.count("statistics_not_renewed")
    assert told == {"verify": 0, "rebuild": 0, "export": 0, "import": 1}
    postgres.psql("DELETE FROM pg_statistic WHERE starelid = ANY ('{boards,ledger,totals}'::regclass[])", "ready")
    server = Server(url_of("writer", "ready"), log=tmp_path / "serve.log").start()
    assert server.stop() == 0
    assert server.read_log().count("statistics_not_renewed") == 1


def test_a_standby_is_refused_by_serve_and_may_be_verified(refuse: Callable[..., str], tmp_path: Path) -> None:
    with OwnPostgres() as primary, OwnValkey() as valkey:
        up = Server(Stores(primary.url, valkey.url), log=tmp_path / "log")
        assert up.run("migrate").returncode == 0
        standby = primary.make_standby()
        try:
            stores = Stores(standby.url, valkey.url)
            assert "is a standby" in refuse(stores)
            verified = Server(stores, log=tmp_path / "log").run("verify")
            assert verified.returncode == 0, verified.stdout + verified.stderr
            joint = f"{standby.url}&target_session_attrs=read-write"
            assert "target_session_attrs" in refuse(Stores(joint, valkey.url))
        finally:
            standby.end()


# -- ports


def test_a_taken_port_suggests_another(refuse: Callable[..., str], stores: Stores) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for workers in ("1", "2"):
            said = refuse(stores, "serve", "--port", port, "--workers", workers)
            assert f"can't listen on 127.0.0.1 port {port}: another program has it" in said
            assert "--port" in said


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b", "::2:3"])
def test_an_address_that_is_not_ours_is_told(refuse: Callable[..., str], stores: Stores, host: str) -> None:
    said = refuse(stores, "serve", "--port", "0", "--host", host)
    assert host in said
    assert "--host" in said
