"""Who is asking: verification of bearer tokens (JWT), with a bounded cache of those already verified.

Algorithms are pinned by configuration, never read from the token. A symmetric key is refused under 32 bytes.
Source: RFC 7519, RFC 8725 (best practices).
"""

import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import jwt
import msgspec

from scoreboard.errors import Forbidden, StartupError, Unauthenticated
from scoreboard.model import validate_user_id
from scoreboard.own_files import read_secret
from scoreboard.trace import note_caller

TOKEN_BYTES_MAX = 4_096
CACHE_MAX = 20_000
EXPIRY_MAX = 2**53
SECRET_BYTES_MIN = 32
SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})
ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})


class Caller(msgspec.Struct, frozen=True):
    """A verified token: the user it names, what it may do, and when it ends (seconds since 1970)."""

    user_id: str
    scopes: frozenset[str]
    expires_at: float

    def may_submit_for(self, user_id: str) -> None:
        """:raises Forbidden: if the token is neither of that user nor has ``scores:any``."""
        if user_id != self.user_id and "scores:any" not in self.scopes:
            raise Forbidden(f"the token of {self.user_id!r} may not submit for {user_id!r}")

    def may_submit_batches(self) -> None:
        """:raises Forbidden: if the token lacks ``scores:any``."""
        if "scores:any" not in self.scopes:
            raise Forbidden(f"the token of {self.user_id!r} lacks the scope 'scores:any'")

    @property
    def is_trusted(self) -> bool:
        """Whether the bearer is a server that may say what an action was worth."""
        return "scores:any" in self.scopes

    def may_erase(self, user_id: str) -> None:
        """:raises Forbidden: if the token is neither of that user nor has ``admin``."""
        if user_id != self.user_id and "admin" not in self.scopes:
            raise Forbidden(f"the token of {self.user_id!r} may not erase {user_id!r}")

    def may_read_history_of(self, user_id: str) -> None:
        """:raises Forbidden: if the token is neither of that user nor has ``admin``."""
        if user_id != self.user_id and "admin" not in self.scopes:
            raise Forbidden(f"the token of {self.user_id!r} may not read the history of {user_id!r}")

    def must_be_admin(self) -> None:
        """:raises Forbidden: if the token lacks ``admin``."""
        if "admin" not in self.scopes:
            raise Forbidden(f"the token of {self.user_id!r} lacks the scope 'admin'")


class Authenticator:
    """Verifies tokens against one key.

    :cvar leeway_s: by how much the clocks of who signs and who verifies may differ.

    :param key: the shared secret for HS algorithms, else the public key in PEM.
    :param algorithms: those accepted; all symmetric or all asymmetric.
    :raises StartupError: if key and algorithms do not fit.
    """

    leeway_s = 10.0

    def __init__(
        self, key: str, algorithms: Sequence[str], *, issuer: str | None = None, audience: str | None = None
    ) -> None:
        check_key(key, algorithms)
        self._key = key
        self._algorithms = list(algorithms)
        self._issuer = issuer
        self._audience = audience
        self._verified: dict[str, Caller] = {}

    def verify(self, authorization: str | None) -> Caller:
        """The caller named by an Authorization header.

        :raises Unauthenticated: if there is no acceptable token.
        """
        if not authorization:
            raise Unauthenticated("the Authorization header is missing", token_was_sent=False)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("the Authorization header is not 'Bearer <token>'", token_was_sent=False)
        return self.verify_token(token.strip())

    def verify_token(self, token: str) -> Caller:
        """The caller named by a token.

        :raises Unauthenticated: if the token is not acceptable.
        """
        caller = self._verified.get(token)
        if caller is None:
            caller = self._decode(token)
            if len(self._verified) >= CACHE_MAX:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = caller
        if caller.expires_at <= time.time():
            self._verified.pop(token, None)
            raise Unauthenticated("the token has expired")
        note_caller(caller.user_id)
        return caller

    def ends_at(self, caller: Caller) -> float:
        """When what a caller is being sent has to end, in seconds since 1970."""
        return caller.expires_at + self.leeway_s

    def _decode(self, token: str) -> Caller:
        if len(token) > TOKEN_BYTES_MAX:
            raise Unauthenticated(f"the token has {len(token)} characters, more than {TOKEN_BYTES_MAX}")
        required = ["sub", "exp"] + (["iss"] if self._issuer else []) + (["aud"] if self._audience else [])
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": required, "verify_aud": self._audience is not None},
            )
        except jwt.PyJWTError as exc:
            raise Unauthenticated(f"the token is not accepted: {exc}") from exc
        except (ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise Unauthenticated("the token is not accepted: it is malformed") from exc
        expires_at = claims["exp"]
        if type(expires_at) not in (int, float) or not 0 <= expires_at < EXPIRY_MAX:
            raise Unauthenticated("the token's exp is not a time in seconds since 1970")
        scope = claims.get("scope", "")
        if not isinstance(scope, str):
            raise Unauthenticated("the token's scope is not a string")
        wrong = validate_user_id(claims["sub"])
        if wrong:
            raise Unauthenticated(f"the token's sub {wrong}")
        return Caller(claims["sub"], frozenset(scope.split()), float(expires_at))


def check_key(key: str, algorithms: Sequence[str]) -> None:
    """:raises StartupError: if the key is too weak, or of another kind than the algorithms."""
    unknown = set(algorithms) - SYMMETRIC - ASYMMETRIC
    if unknown or not algorithms:
        raise StartupError(f"SCOREBOARD_JWT_ALGORITHMS: {sorted(unknown)} not among {sorted(SYMMETRIC | ASYMMETRIC)}")
    if set(algorithms) & SYMMETRIC and set(algorithms) & ASYMMETRIC:
        raise StartupError(f"SCOREBOARD_JWT_ALGORITHMS: {list(algorithms)} mixes shared secrets and key pairs")
    if set(algorithms) & SYMMETRIC and len(key.encode()) < SECRET_BYTES_MIN:
        raise StartupError(f"SCOREBOARD_JWT_SECRET: has {len(key.encode())} bytes, fewer than {SECRET_BYTES_MIN}")
    for name in algorithms:
        try:
            jwt.get_algorithm_by_name(name).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError) as exc:
            setting = "JWT_SECRET" if name in SYMMETRIC else "JWT_PUBLIC_KEY"
            raise StartupError(f"SCOREBOARD_{setting}: is not a key for {name}") from exc


def sign_token(secret: str, algorithm: str, *, user_id: str, scope: str, ttl_s: int, extra: dict[str, str]) -> str:
    """A token for a user, signed with the shared secret.

    :param extra: further claims, such as ``iss`` and ``aud``.
    """
    now = int(time.time())
    claims: dict[str, object] = {"sub": user_id, "iat": now, "exp": now + ttl_s, **extra}
    if scope:
        claims["scope"] = scope
    return jwt.encode(claims, secret, algorithm=algorithm)


def read_or_create_secret(path: Path) -> str:
    """The signing secret kept in a file; made on first use, whole or not at all, readable by its owner only.

    :raises StartupError: if the file is a link, another user's, or can be read by others.
    """
    if not path.is_symlink() and not path.exists():
        draft = path.with_suffix(f".{os.getpid()}.new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:  # somebody else was first: theirs holds
            pass
        finally:
            draft.unlink()
    return read_secret(path)
