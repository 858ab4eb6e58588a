"""Settings: environment variables ``SCOREBOARD_*``, read once at start. A bad value refuses to start and names itself.

``SCOREBOARD_<NAME>_FILE`` reads a value from a file, for secrets. A variable that is empty counts as not set; a file
that is empty is refused, because whoever mounts a secret means it. Only the command line and the composition root read
settings; they hand values down.
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Literal

import msgspec
import platformdirs

from scoreboard.auth import ASYMMETRIC, SYMMETRIC, check_algorithms, check_key, check_secret
from scoreboard.errors import StartupError
from scoreboard.http.addresses import Networks, parse_networks
from scoreboard.limits import Rate
from scoreboard.urls import check_postgres_url, check_redis_url

PREFIX = "SCOREBOARD_"
OPTION_PREFIX = "--"
SETTINGS = {
    "DATABASE_URL": "postgresql:// URL of your PostgreSQL; without it an embedded one is started",
    "REDIS_URL": "redis://, rediss:// or unix:// URL of your Redis or Valkey; without it an embedded one is started",
    "HOST": "address to listen on (127.0.0.1)",
    "PORT": "port to listen on, 0 for any free one (8000)",
    "WORKERS": "processes that share the port and serve, 1 to 64 (1)",
    "DATA_DIR": "where the embedded stores and the signing secret live (per user)",
    "JWT_SECRET": "shared secret of at least 32 bytes, for HS algorithms",
    "JWT_PUBLIC_KEY": "public key in PEM, for RS, PS, ES and EdDSA algorithms",
    "JWT_ALGORITHMS": "comma list of accepted algorithms (HS256; RS256 with a public key)",
    "JWT_ISSUER": "iss claim that tokens must have (any)",
    "JWT_AUDIENCE": "aud claim that tokens must have (any)",
    "JWT_LEEWAY_SECONDS": "by how much the clock of whoever signs tokens may differ, 0 to 300 (10)",
    "DIGEST_KEY": "secret of at least 32 bytes, the same on all servers, by which erased users who were hidden are "
    "known again; never change it (with embedded stores a file in the data directory, else kept in the database)",
    "DEMO": "auto, on or off: whether anybody may play as a demo user on board global (auto: with embedded stores on a "
    "loopback address, if boards are public)",
    "PUBLIC_READS": "true or false: whether boards can be read without a token (true)",
    "CORS_ORIGINS": "comma list of origins whose pages may call the API, with credentials; or * alone, without (none)",
    "RATE_LIMIT": "submissions per user in so many seconds, all of which may come at once, or off (100/60s)",
    "FAST_LANE": "true or false: whether plain requests are answered without the framework's parser (true)",
    "STREAMS_MAX": "open streams, 1 to 1000000 (12000)",
    "STREAMS_PER_IP_MAX": "open streams of one address, 0 for no limit (500)",
    "CONNECTIONS_PER_IP_MAX": "open connections of one address, 0 for no limit (1000)",
    "AUTH_FAILURES_PER_IP_MAX": "refused tokens of one address in a minute, 0 for no limit (100)",
    "MISSES_PER_IP": "tokenless reads of one address of what does not exist, in so many seconds, or off (1000/60s)",
    "TRUSTED_PROXIES": "comma list of networks whose Forwarded, X-Forwarded-For or PROXY header is believed (none)",
    "METRICS_PORT": "a port of its own for /metrics, on the same host, 0 for any free one (none)",
    "LOG_LEVEL": "debug, info, warning or error (info)",
    "LOG_FORMAT": "json or console (console on a terminal, else json)",
    "AUTO_MIGRATE": "true or false: whether commands other than migrate bring an older schema up to date (true)",
    "DRAIN_SECONDS": "how long a shutdown may take to finish what is under way, 0 to 3600 (10)",
}
LATER = ("DATABASE_REPLICA_URL", "JWT_JWKS_URL")
"""Settings that are planned; setting one refuses to start rather than being ignored."""

LogLevel = Literal["debug", "info", "warning", "error"]


class Config(msgspec.Struct, frozen=True):
    """Checked settings. ``database_url`` and ``redis_url`` are both None (embedded) or both set (production)."""

    database_url: str | None
    redis_url: str | None
    host: str
    port: int
    workers: int
    data_dir: Path
    jwt_secret: str | None
    jwt_public_key: str | None
    jwt_algorithms: tuple[str, ...]
    jwt_issuer: str | None
    jwt_audience: str | None
    jwt_leeway_s: int
    digest_key: str | None
    demo: Literal["auto", "on", "off"]
    public_reads: bool
    cors_origins: tuple[str, ...]
    rate: Rate | None
    fast_lane: bool
    streams_max: int
    streams_per_ip_max: int
    connections_per_ip_max: int
    auth_failures_per_ip_max: int
    misses: Rate | None
    trusted_proxies: Networks
    metrics_port: int | None
    log_level: LogLevel
    log_format: Literal["json", "console"]
    drain_s: float
    auto_migrate: bool

    @property
    def has_demo(self) -> bool:
        """Whether anybody may act as a demo user."""
        if self.demo == "auto":
            return self.embedded and self.public_reads and _is_loopback(self.host)
        return self.demo == "on"

    @property
    def embedded(self) -> bool:
        """Whether the stores are our own children."""
        return self.database_url is None


def load_config(
    environ: Mapping[str, str], *, overrides: Mapping[str, str | None] | None = None, terminal: bool = False
) -> Config:
    """Read and check all settings.

    :param overrides: values from the command line by setting name; None where not given.
    :param terminal: whether logs go to a terminal.
    :raises StartupError: if a value is bad or settings contradict each other.
    """
    values = _Values(environ, {k: v for k, v in (overrides or {}).items() if v is not None})
    database_url = values.url("DATABASE_URL", check_postgres_url)
    redis_url = values.url("REDIS_URL", check_redis_url)
    if (database_url is None) != (redis_url is None):
        missing = "REDIS_URL" if redis_url is None else "DATABASE_URL"
        raise StartupError(f"{PREFIX}{missing} is missing: set both URLs, or neither for the embedded stores")
    secret, public_key = values.text("JWT_SECRET"), values.text("JWT_PUBLIC_KEY")
    if secret and public_key:
        raise StartupError(
            f"{values.source('JWT_SECRET')} and {values.source('JWT_PUBLIC_KEY')} are both set: choose one"
        )
    default_algorithms = "RS256" if public_key else "HS256"
    algorithms = tuple(part.strip() for part in (values.text("JWT_ALGORITHMS") or default_algorithms).split(","))
    check_algorithms(algorithms, values.source("JWT_ALGORITHMS"))
    if bool(public_key) == bool(set(algorithms) & SYMMETRIC):
        kind, fitting = ("a public key", ASYMMETRIC) if public_key else ("a shared secret", SYMMETRIC)
        raise StartupError(
            f"{values.source('JWT_ALGORITHMS')}: {','.join(algorithms)} does not go with {kind}; name some of "
            f"{', '.join(sorted(fitting))}"
        )
    key = secret or public_key
    if key:
        check_key(key, algorithms, values.source("JWT_SECRET" if secret else "JWT_PUBLIC_KEY"))
    elif database_url is not None:
        raise StartupError(f"{PREFIX}JWT_SECRET or {PREFIX}JWT_PUBLIC_KEY is needed with your own stores")
    port, metrics_port = values.integer("PORT", 8000, 0, 65_535), values.port("METRICS_PORT")
    if metrics_port and metrics_port == port:
        raise StartupError(
            f"{values.source('METRICS_PORT')}: {metrics_port} is {values.source('PORT')} already: choose another port"
        )
    default_data_dir = platformdirs.user_data_dir("scoreboard", appauthor=False)
    return Config(
        database_url=database_url,
        redis_url=redis_url,
        host=values.text("HOST") or "127.0.0.1",
        port=port,
        workers=values.integer("WORKERS", 1, 1, 64),
        data_dir=Path(values.text("DATA_DIR") or default_data_dir).expanduser().absolute(),
        jwt_secret=secret,
        jwt_public_key=public_key,
        jwt_algorithms=algorithms,
        jwt_issuer=values.text("JWT_ISSUER"),
        jwt_audience=values.text("JWT_AUDIENCE"),
        jwt_leeway_s=values.integer("JWT_LEEWAY_SECONDS", 10, 0, 300),
        digest_key=values.secret("DIGEST_KEY"),
        demo=values.choice("DEMO", "auto", "auto", "on", "off"),  # type: ignore[arg-type]
        public_reads=values.choice("PUBLIC_READS", "true", "true", "false") == "true",
        cors_origins=values.origins("CORS_ORIGINS"),
        rate=values.rate("RATE_LIMIT", Rate(quota=100, window_s=60)),
        fast_lane=values.choice("FAST_LANE", "true", "true", "false") == "true",
        streams_max=values.integer("STREAMS_MAX", 12_000, 1, 1_000_000),
        streams_per_ip_max=values.integer("STREAMS_PER_IP_MAX", 500, 0, 1_000_000),
        connections_per_ip_max=values.integer("CONNECTIONS_PER_IP_MAX", 1_000, 0, 1_000_000),
        auth_failures_per_ip_max=values.integer("AUTH_FAILURES_PER_IP_MAX", 100, 0, 1_000_000),
        misses=values.rate("MISSES_PER_IP", Rate(quota=1_000, window_s=60)),
        trusted_proxies=values.networks("TRUSTED_PROXIES"),
        metrics_port=metrics_port,
        log_level=values.choice("LOG_LEVEL", "info", "debug", "info", "warning", "error"),  # type: ignore[arg-type]
        log_format=values.choice("LOG_FORMAT", "console" if terminal else "json", "json", "console"),  # type: ignore[arg-type]
        drain_s=float(values.integer("DRAIN_SECONDS", 10, 0, 3_600)),
        auto_migrate=values.choice("AUTO_MIGRATE", "true", "true", "false") == "true",
    )


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def _parse_origin(text: str) -> str:
    """An origin as browsers send it: in lower case, without a slash and without the port that its scheme has anyway.

    :raises ValueError: if no browser sends such an origin; its message names it and what would be right.
    """
    if text == "*":
        return text
    if "*" in text:
        raise ValueError(f"{text[:100]!r} has a * in it: name each origin, or set * alone for all of them")
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        raise ValueError(
            f"{text[:100]!r} is not an origin such as https://example.org or http://localhost:3000; "
            "write a name in other letters as browsers send it, xn--..."
        )
    scheme, host, port = found[1], found[2], int(found[3] or _DEFAULT_PORTS[found[1]])
    if not 1 <= port <= 65_535:
        raise ValueError(f"{text[:100]!r} has the port {port}, which is not one from 1 to 65535")
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except ValueError as exc:
            raise ValueError(f"{text[:100]!r} has an address in it that is not one of IPv6") from exc
    return f"{scheme}://{host}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


class _Values:
    """Reads single settings, with errors that name them."""

    def __init__(self, environ: Mapping[str, str], overrides: Mapping[str, str]) -> None:
        self._environ = environ
        self._overrides = overrides
        known = {PREFIX + name for name in SETTINGS} | {f"{PREFIX}{name}_FILE" for name in SETTINGS}
        for name in environ:
            if name.removesuffix("_FILE") in {PREFIX + later for later in LATER}:
                raise StartupError(f"{name} is not supported yet")
            if name.startswith(PREFIX) and name not in known and not name.startswith(PREFIX + "TEST_"):
                raise StartupError(f"{name} is not a setting; after {PREFIX} there are {', '.join(sorted(SETTINGS))}")

    def source(self, name: str) -> str:
        """What whoever runs us has set for a setting: an option, a variable, or one that names a file."""
        if name in self._overrides:
            return OPTION_PREFIX + name.lower().replace("_", "-")
        return f"{PREFIX}{name}_FILE" if self._environ.get(f"{PREFIX}{name}_FILE") else PREFIX + name

    def text(self, name: str) -> str | None:
        if name in self._overrides:
            if not self._overrides[name]:
                raise StartupError(f"{self.source(name)} is empty: give it a value, or leave it out")
            return self._overrides[name]
        full = PREFIX + name
        file = self._environ.get(f"{full}_FILE")
        if file and self._environ.get(full):
            raise StartupError(f"{full} and {full}_FILE are both set: choose one")
        if file:
            return _read_value(f"{full}_FILE", file)
        return self._environ.get(full) or None

    def secret(self, name: str) -> str | None:
        text = self.text(name)
        if text is not None:
            check_secret(self.source(name), text)
        return text

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise StartupError(f"{self.source(name)}: {text!r} is not a whole number from {low} to {high}")
        return int(text)

    def port(self, name: str) -> int | None:
        return self.integer(name, 0, 0, 65_535) if self.text(name) is not None else None

    def networks(self, name: str) -> Networks:
        text = self.text(name)
        try:
            return parse_networks(text) if text is not None else Networks()
        except ValueError as exc:
            raise StartupError(f"{self.source(name)}: {exc}") from exc

    def choice(self, name: str, default: str, *choices: str) -> str:
        text = (self.text(name) or default).lower()
        if text not in choices:
            raise StartupError(f"{self.source(name)}: {text!r} is not one of {', '.join(choices)}")
        return text

    def url(self, name: str, check: Callable[[str, str], None]) -> str | None:
        text = self.text(name)
        if text is not None:
            check(self.source(name), text)
        return text

    def rate(self, name: str, default: Rate) -> Rate | None:
        text = self.text(name)
        if text is None:
            return default
        if text.lower() == "off":
            return None
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,6})s", text)
        if found is None or int(found[1]) < 1 or int(found[2]) < 1:
            raise StartupError(f"{self.source(name)}: {text!r} is neither 'off' nor like 100/60s")
        return Rate(quota=int(found[1]), window_s=int(found[2]))

    def origins(self, name: str) -> tuple[str, ...]:
        text = self.text(name)
        try:
            origins = tuple(_parse_origin(part.strip()) for part in text.split(",")) if text else ()
        except ValueError as exc:
            raise StartupError(f"{self.source(name)}: {exc}") from exc
        if "*" in origins and len(origins) > 1:
            raise StartupError(
                f"{self.source(name)}: * stands for every origin, so it stands alone; "
                f"leave out * or the others ({', '.join(origin for origin in origins if origin != '*')})"
            )
        return origins


def _read_value(setting: str, file: str) -> str:
    """What a file holds that a setting names, without white space around it.

    :raises StartupError: if it can't be read, or there is nothing in it.
    """
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as exc:
        raise StartupError(f"{setting}: {file!r} can't be read: it is not text in UTF-8") from exc
    except OSError as exc:
        raise StartupError(f"{setting}: {file!r} can't be read: {exc.strerror}") from exc
    if not text:
        raise StartupError(f"{setting}: {file!r} is empty: put the value into it, or don't set {setting}")
    return text
