"""Who is asking: verification of bearer tokens (JWT), with a bounded cache of those already verified.

Algorithms are pinned by configuration, never read from the token. Keys that can be guessed or calculated are refused.

Tokens of the demo name its key in their head and are verified with that one alone, so one that leaks is good for what
the demo may do and for nothing else, and no token of the demo can pass for one of the operator's.
Source: RFC 7518, RFC 7519, RFC 8725 (best practices).
"""

import os
import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from scoreboard.errors import Forbidden, StartupError, Unauthenticated
from scoreboard.model import ID_CHARS_MAX, validate_user_id
from scoreboard.names import nfc
from scoreboard.own_files import read_secret
from scoreboard.shown import show
from scoreboard.trace import note_caller

TOKEN_BYTES_MAX = 4_096
CACHE_MAX = 20_000
EXPIRY_MAX = 2**53
SECRET_BYTES_MIN = 32
SECRET_DIFFERENT_BYTES_MIN = 8
"""Of 32 random hexadecimal digits fewer are different in one of 28 million cases."""
RSA_BITS_MIN = 2_048
CURVES = {"ES256": "P-256 (secp256r1)", "ES384": "P-384 (secp384r1)", "ES512": "P-521 (secp521r1)"}
SCOPES = ("scores:any", "boards:read", "admin")
"""What a token may say that its bearer may do, beyond submitting for the user whom it names."""
DEMO_BOARD = "global"
DEMO_USER = re.compile(r"demo-[a-z0-9-]{1,32}")
DEMO_TOKEN_TTL_S = 86_400
DEMO_KEY_ID = "scoreboard-demo"
DEMO_AUDIENCE = "scoreboard-demo"
DEMO_ALGORITHM = "HS256"
SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})
ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})


class Caller(msgspec.Struct, frozen=True):
    """A verified token: the user it names, what it may do, and when it is not accepted any more.

    :ivar expires_at: seconds since 1970, with the tolerance for clocks that differ.
    :ivar is_demo: whether it is a token of the demo, which anybody gets.
    """

    user_id: str
    scopes: frozenset[str]
    expires_at: float
    is_demo: bool = False

    def may_submit_for(self, user_id: str) -> None:
        """:raises Forbidden: if the token is neither of that user nor has ``scores:any``."""
        if user_id != self.user_id and "scores:any" not in self.scopes:
            raise Forbidden(f"the token of {self.user_id!r} may not submit for {user_id!r}: that needs 'scores:any'")

    def may_use_board(self, board: str) -> None:
        """:raises Forbidden: if it is a token of the demo, and the board is not the demo's."""
        if self.is_demo and board != DEMO_BOARD:
            raise Forbidden(f"a token of the demo is good for board {DEMO_BOARD!r} alone, not for {board!r}")

    def may_submit_batches(self) -> None:
        """:raises Forbidden: if the token lacks ``scores:any``."""
        self._must_have("scores:any")

    @property
    def is_trusted(self) -> bool:
        """Whether the bearer is a server that may say what an action was worth."""
        return "scores:any" in self.scopes

    @property
    def is_admin(self) -> bool:
        """Whether the bearer may do everything."""
        return "admin" in self.scopes

    def may_erase(self, user_id: str) -> None:
        """:raises Forbidden: if the token is neither of that user nor has ``admin``."""
        if self.is_demo:
            raise Forbidden("a token of the demo can't erase anybody")
        if user_id != self.user_id and not self.is_admin:
            raise Forbidden(f"the token of {self.user_id!r} may not erase {user_id!r}: that needs the scope 'admin'")

    def may_read_history_of(self, user_id: str) -> None:
        """:raises Forbidden: if the token is neither of that user nor has ``admin``."""
        if self.is_demo:
            raise Forbidden("a token of the demo can't read histories")
        if user_id != self.user_id and not self.is_admin:
            raise Forbidden(
                f"the token of {self.user_id!r} may not read the history of {user_id!r}: that needs the scope 'admin'"
            )

    def sees_hidden(self, user_id: str) -> bool:
        """Whether the bearer is told how a user fares who is kept out of the ranking."""
        return user_id == self.user_id or not self.scopes.isdisjoint(("boards:read", "admin"))

    def must_be_admin(self) -> None:
        """:raises Forbidden: if the token lacks ``admin``."""
        self._must_have("admin")

    def _must_have(self, scope: str) -> None:
        if scope not in self.scopes:
            raise Forbidden(f"the token of {self.user_id!r} lacks the scope {scope!r}")


class Authenticator:
    """Verifies tokens against one key, and those of the demo against the demo's.

    :param key: the shared secret for HS algorithms, else the public key in PEM.
    :param algorithms: those accepted; all symmetric or all asymmetric.
    :param leeway_s: by how much the clock of whoever signs may differ from ours, for ``exp``, ``nbf`` and ``iat``.
    :param demo_key: signs the demo's tokens; None where there is no demo.
    :raises StartupError: if key and algorithms do not fit.
    """

    def __init__(
        self,
        key: str,
        algorithms: Sequence[str],
        *,
        issuer: str | None = None,
        audience: str | None = None,
        leeway_s: float = 0.0,
        demo_key: str | None = None,
    ) -> None:
        check_algorithms(algorithms)
        check_key(key, algorithms)
        self._key = key
        self._algorithms = list(algorithms)
        self._issuer = issuer
        self._audience = audience
        self.leeway_s = leeway_s
        self._demo_key = demo_key
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

    def _decode(self, token: str) -> Caller:
        if len(token) > TOKEN_BYTES_MAX:
            raise Unauthenticated(f"the token has {len(token)} characters, more than {TOKEN_BYTES_MAX}")
        try:
            is_demo = self._demo_key is not None and jwt.get_unverified_header(token).get("kid") == DEMO_KEY_ID
            claims = self._decode_demo(token) if is_demo else self._decode_own(token)
        except jwt.PyJWTError as exc:
            raise Unauthenticated(f"the token is not accepted: {self._explain(exc)}") from exc
        except (ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise Unauthenticated("the token is not accepted: it is malformed") from exc
        expires_at = claims["exp"]
        if type(expires_at) not in (int, float) or not 0 <= expires_at < EXPIRY_MAX:
            raise Unauthenticated("the token's exp is not a time in seconds since 1970")
        scope = claims.get("scope", "")
        if not isinstance(scope, str):
            raise Unauthenticated("the token's scope is not a string of scopes with spaces between")
        user_id = nfc(claims["sub"], ID_CHARS_MAX)
        wrong = validate_user_id(user_id)
        if wrong:
            raise Unauthenticated(f"the token's sub {wrong}")
        if is_demo and not DEMO_USER.fullmatch(user_id):
            raise Unauthenticated(f"the token's sub {user_id!r} is no user of the demo")
        scopes = frozenset() if is_demo else frozenset(scope.split())
        return Caller(user_id, scopes, float(expires_at) + self.leeway_s, is_demo)

    def _explain(self, exc: jwt.PyJWTError) -> str:
        """What is wrong with a token, for whoever sent it."""
        match exc:
            case jwt.ExpiredSignatureError():
                return "it has expired: its exp has passed"
            case jwt.ImmatureSignatureError():
                return "it is not valid yet: its nbf or iat lies ahead of this server's clock"
            case jwt.InvalidAlgorithmError():
                return f"it is signed by another algorithm than {', '.join(self._algorithms)}"
            case jwt.InvalidSignatureError():
                return "its signature was not made with the key of this server"
            case jwt.MissingRequiredClaimError():
                return f"it has no claim {exc.claim!r}"
            case jwt.InvalidIssuerError():
                return "its iss is not the one that this server asks for"
            case jwt.InvalidAudienceError():
                return "its aud is not the one that this server asks for"
            case jwt.exceptions.InvalidSubjectError():
                return "its sub is not a string"
            case jwt.InvalidIssuedAtError():
                return "its iat is not a time in seconds since 1970"
        return "it is malformed; a JWT is three parts in base64url with dots between, and its head and claims are JSON"

    def _decode_own(self, token: str) -> dict[str, Any]:
        required = ["sub", "exp"] + (["iss"] if self._issuer else []) + (["aud"] if self._audience else [])
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key,
            algorithms=self._algorithms,
            issuer=self._issuer,
            audience=self._audience,
            leeway=self.leeway_s,
            options={"require": required, "verify_aud": self._audience is not None},
        )
        return claims

    def _decode_demo(self, token: str) -> dict[str, Any]:
        assert self._demo_key is not None
        claims: dict[str, Any] = jwt.decode(
            token,
            self._demo_key,
            algorithms=[DEMO_ALGORITHM],
            audience=DEMO_AUDIENCE,
            leeway=self.leeway_s,
            options={"require": ["sub", "exp", "aud"]},
        )
        return claims


def check_algorithms(algorithms: Sequence[str], setting: str = "SCOREBOARD_JWT_ALGORITHMS") -> None:
    """:param setting: what names the algorithms.
    :raises StartupError: if one of them does not exist, or they take different kinds of keys."""
    known = ", ".join(sorted(SYMMETRIC | ASYMMETRIC))
    if not all(algorithms):
        raise StartupError(
            f"{setting}: a name is missing beside a comma in {show(','.join(algorithms))}; there are {known}"
        )
    unknown = [name for name in algorithms if name not in SYMMETRIC | ASYMMETRIC]
    if unknown or not algorithms:
        raise StartupError(f"{setting}: there is no algorithm {', '.join(map(show, unknown))}; there are {known}")
    if set(algorithms) & SYMMETRIC and set(algorithms) & ASYMMETRIC:
        raise StartupError(
            f"{setting}: {','.join(algorithms)} mixes shared secrets ({', '.join(sorted(SYMMETRIC))}) and key pairs "
            "(all others); name algorithms of one kind"
        )


def check_key(key: str, algorithms: Sequence[str], setting: str | None = None) -> None:
    """Look whether a key is one for algorithms that go with each other.

    :param setting: where the key comes from, if not the setting for keys of its kind.
    :raises StartupError: if the key is too weak, or of another kind than the algorithms.
    """
    setting = setting or ("SCOREBOARD_JWT_SECRET" if set(algorithms) & SYMMETRIC else "SCOREBOARD_JWT_PUBLIC_KEY")
    if set(algorithms) & SYMMETRIC:
        check_secret(setting, key)
    for name in algorithms:
        try:
            prepared = jwt.get_algorithm_by_name(name).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError) as exc:
            raise StartupError(f"{setting}: is not a key for {name}, which needs {_kind(name)}") from exc
        if name in ASYMMETRIC:
            _check_public_key(setting, prepared)


def check_secret(setting: str, secret: str) -> None:
    """:raises StartupError: if a secret can be guessed: it is short, or made of very few different bytes."""
    size, different = len(secret.encode()), len(set(secret.encode()))
    if size < SECRET_BYTES_MIN:
        raise StartupError(
            f"{setting}: has {size} {'byte' if size == 1 else 'bytes'}, fewer than {SECRET_BYTES_MIN}; take a random "
            "one, such as what 'openssl rand -base64 48' prints"
        )
    if different < SECRET_DIFFERENT_BYTES_MIN:
        found = "is one character, repeated" if len(set(secret)) == 1 else f"has only {different} different bytes"
        raise StartupError(
            f"{setting}: {found}, so it can be guessed; take a random one, such as what 'openssl rand -base64 48' "
            "prints"
        )


def _kind(algorithm: str) -> str:
    """What kind of key an algorithm needs, in words."""
    if algorithm in CURVES:
        return f"an elliptic curve key of {CURVES[algorithm]}, in PEM"
    kinds = {"H": "a secret that is no key in PEM", "R": "an RSA key in PEM", "P": "an RSA key in PEM"}
    return kinds.get(algorithm[0], "an Ed25519 or Ed448 key in PEM")


def _check_public_key(setting: str, key: object) -> None:
    """:raises StartupError: if the key is a private one, or too short."""
    if hasattr(key, "private_bytes"):
        raise StartupError(
            f"{setting}: is a private key, which the server must not have; give it the public one, "
            "which 'openssl pkey -pubout' makes of it"
        )
    if isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS_MIN:
        raise StartupError(f"{setting}: is an RSA key of {key.key_size} bits, fewer than {RSA_BITS_MIN}")


def check_scopes(scope: str) -> None:
    """:raises StartupError: if a scope of those with spaces between does not exist."""
    unknown = [name for name in scope.split() if name not in SCOPES]
    if unknown:
        raise StartupError(f"--scope: there is no scope {', '.join(map(repr, unknown))}; there are {', '.join(SCOPES)}")


def sign_demo_token(demo_key: str, user_id: str) -> str:
    """A token for a user of the demo, good for nothing but playing on the demo's board."""
    claims = {"sub": user_id, "aud": DEMO_AUDIENCE, "exp": int(time.time()) + DEMO_TOKEN_TTL_S}
    return jwt.encode(claims, demo_key, algorithm=DEMO_ALGORITHM, headers={"kid": DEMO_KEY_ID})


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
