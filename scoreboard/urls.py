"""Checks the URLs of both stores before anything is connected. What a driver would ignore, send on to the server or
find out at the first request is refused here by its name; a value that may be a password is never shown.
"""

import re
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from scoreboard.errors import StartupError

POSTGRES_SCHEMES = ("postgresql", "postgres")
REDIS_SCHEMES = ("redis", "rediss", "unix")
SESSION_ATTRIBUTES = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
NEGOTIATIONS = ("postgres", "direct")
POSTGRES_PARAMETERS: Mapping[str, Collection[str] | None] = {
    "host": None,
    "port": None,
    "dbname": None,
    "database": None,
    "user": None,
    "password": None,
    "passfile": None,
    "service": None,
    "servicefile": None,
    "sslmode": SSL_MODES,
    "sslrootcert": None,
    "sslcert": None,
    "sslkey": None,
    "sslpassword": None,
    "sslcrl": None,
    "sslnegotiation": NEGOTIATIONS,
    "ssl_min_protocol_version": TLS_VERSIONS,
    "ssl_max_protocol_version": TLS_VERSIONS,
    "target_session_attrs": SESSION_ATTRIBUTES,
    "krbsrvname": None,
    "gsslib": ("gssapi", "sspi"),
    "application_name": None,
}
"""Those that the driver takes, and their values where they are few."""
REDIS_TLS_PARAMETERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_UNIX = "unix:///run/redis.sock?db=0"


def check_postgres_url(setting: str, url: str) -> None:
    """:raises StartupError: if the URL has something that it can't, or names a certificate that is none."""
    _check_scheme(setting, url, POSTGRES_SCHEMES)
    given = _parameters(setting, url)
    for name, value in given.items():
        if name not in POSTGRES_PARAMETERS:
            raise StartupError(
                f"{setting}: there is no parameter {name[:80]!r}; there are {', '.join(sorted(POSTGRES_PARAMETERS))}. "
                "What a session shall have besides is set for the role: ALTER ROLE … SET …"
            )
        values = POSTGRES_PARAMETERS[name]
        if values is not None and value not in values:
            raise StartupError(f"{setting}: {name} is {value[:80]!r}, not one of {', '.join(values)}")
    if not re.fullmatch(r"[0-9,]*", given.get("port", "")):
        raise StartupError(f"{setting}: port is not a number")
    for name in ("passfile", "servicefile"):
        if name in given:
            _check_readable(f"{setting}: {name}", given[name])
    for name in ("sslrootcert", "sslcrl"):
        if name in given:
            _check_authorities(f"{setting}: {name}", given[name])
    own_key = Path("~/.postgresql/postgresql.key").expanduser()  # where the driver looks next
    if "sslkey" in given or not own_key.exists():
        _check_pair(setting, "sslcert", "sslkey", given, given.get("sslpassword", ""))
    if given.get("sslmode", "").startswith("verify") and "sslrootcert" not in given:
        own = Path("~/.postgresql/root.crt").expanduser()
        if not own.exists():
            raise StartupError(
                f"{setting}: sslmode is {given['sslmode']}, so sslrootcert=FILE has to name the certificates to trust "
                f"(there is no {own} either)"
            )


def check_redis_url(setting: str, url: str) -> None:
    """:raises StartupError: if the URL has something that it can't, or names a certificate that is none."""
    scheme = _check_scheme(setting, url, REDIS_SCHEMES)
    given = _parameters(setting, url)
    known: tuple[str, ...] = {"redis": (), "rediss": REDIS_TLS_PARAMETERS, "unix": ("db",)}[scheme]
    for name in given:
        if name in known:
            continue
        if name in REDIS_TLS_PARAMETERS:
            raise StartupError(f"{setting}: {name} goes with rediss:// only, this is {scheme}://")
        if name == "db":
            raise StartupError(f"{setting}: db goes with unix:// only; elsewhere it is the path: redis://host:6379/0")
        raise StartupError(
            f"{setting}: there is no parameter {name[:80]!r}"
            + (f"; there are {', '.join(known)}" if known else f" ({scheme}:// takes none)")
        )
    if not re.fullmatch(r"[0-9]{0,5}", given.get("db", "")):
        raise StartupError(f"{setting}: db is {given['db'][:80]!r}, not a number such as 0")
    if not _is_whole(scheme, url):
        raise StartupError(f"{setting}: is not like {_UNIX if scheme == 'unix' else f'{scheme}://host:6379/0'}")
    if "ssl_ca_certs" in given:
        _check_authorities(f"{setting}: ssl_ca_certs", given["ssl_ca_certs"])
    _check_pair(setting, "ssl_certfile", "ssl_keyfile", given, "")


def place_of(url: str) -> str:
    """Host and port, or the socket, that a URL names, without what is secret."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return unquote(parts.path)
        named = dict(parse_qsl(parts.query))
    except ValueError:
        return "the server"
    hosts = named.get("host") or parts.netloc.rpartition("@")[2]
    return unquote(hosts) or "the usual address"


def _check_scheme(setting: str, url: str, schemes: Collection[str]) -> str:
    # The value may hold a password, so only its scheme is shown.
    try:
        scheme = urlsplit(url).scheme
    except ValueError as exc:
        raise StartupError(f"{setting}: is not a URL") from exc
    if scheme not in schemes:
        raise StartupError(f"{setting}: scheme {scheme!r} is not one of {', '.join(schemes)}")
    if "#" in url:
        raise StartupError(f"{setting}: holds a '#', which in a password is written %23")
    return scheme


def _parameters(setting: str, url: str) -> dict[str, str]:
    query = urlsplit(url).query
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as exc:
        raise StartupError(f"{setting}: after the '?' it is not like name=value&name=value") from exc
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise StartupError(f"{setting}: the parameter {name[:80]!r} is there twice")
        if not value:
            raise StartupError(f"{setting}: the parameter {name[:80]!r} has no value")
        given[name] = value
    return given


def _is_whole(scheme: str, url: str) -> bool:
    try:
        parts = urlsplit(url)
        if scheme == "unix":
            return len(parts.path) > 1 and not parts.hostname
        return bool(parts.hostname) and parts.port != 0 and bool(re.fullmatch(r"/?|/[0-9]{1,5}", parts.path))
    except ValueError:
        return False


# -- certificates


def _check_readable(what: str, file: str) -> None:
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except OSError as exc:
        raise StartupError(f"{what}: {file!r} can't be read: {exc.strerror}") from exc


def _check_authorities(what: str, file: str) -> None:
    _check_readable(what, file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (ssl.SSLError, ValueError) as exc:
        raise StartupError(f"{what}: {file!r} holds no certificate in PEM") from exc


def _check_pair(setting: str, cert: str, key: str, given: Mapping[str, str], password: str) -> None:
    """Check a client's certificate and the key that belongs to it."""
    if key in given and cert not in given:
        raise StartupError(f"{setting}: {key} is there without {cert}, the certificate that it belongs to")
    if cert not in given:
        return
    _check_authorities(f"{setting}: {cert}", given[cert])
    key_file = given.get(key, given[cert])
    what = f"{setting}: {key if key in given else cert}"
    _check_readable(what, key_file)
    try:
        # With a password at hand in any case: else it would be asked for on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(given[cert], key_file, password=lambda: password)
    except (ssl.SSLError, ValueError) as exc:
        belongs = getattr(exc, "reason", "") == "KEY_VALUES_MISMATCH"
        why = f"is not the key of {given[cert]!r}" if belongs else "holds no private key in PEM that can be read"
        raise StartupError(f"{what}: {key_file!r} {why}") from exc
