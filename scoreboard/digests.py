"""How erased users are known again: a keyed digest of the id, and where its key comes from.

Nothing may name a user who was erased. What has to outlast the erasure, such as that the user was hidden, is kept under
HMAC-SHA256 of the id, so that whoever gets the table can't find out by trying ids whom it is about. The key is that of
the setting, or a file of the data directory with embedded stores. Where neither gives one, a random one is kept in the
database: everything works, but then the table and its key lie side by side.

With another key nobody would be known again, so a server with another one refuses to start once there are digests.
"""

import hashlib
import hmac
import secrets

import structlog

from scoreboard.database import Database
from scoreboard.errors import StartupError

SETTING = "SCOREBOARD_DIGEST_KEY"
FINGERPRINT_CHARS = 16

log = structlog.get_logger(__name__)


def digest_user(key: bytes, user_id: str) -> bytes:
    """The digest under which an erased user is remembered: 32 bytes."""
    return hmac.digest(key, user_id.encode(), "sha256")


def refused_key(outcome: str, source: str = SETTING) -> str | None:
    """Why a server with such a key must not serve, by what agree_on_digest_key answers; None where it may.

    :param source: where the key comes from, or should.
    """
    match outcome:
        case "differs":
            return (
                f"{source}: is not the key with which this database remembers hidden users who were erased; put the "
                "one back that was there before, or they would be shown again"
            )
        case "missing":
            return (
                f"{source} is missing: this database remembers hidden users who were erased by a key that was set "
                "before; put it back, or they would be shown again"
            )
    return None


def fingerprint(key: str) -> str:
    """What tells keys apart and says nothing of them; an id can't have it, which has no control characters."""
    return hmac.digest(key.encode(), b"\0fingerprint", hashlib.sha256).hex()[:FINGERPRINT_CHARS]


class Digests(Database):
    """Makes digests of users. Every method raises Unavailable when PostgreSQL does not answer.

    :ivar remembers: whether somebody may be remembered; until the database says so, submissions go without digests.
    :ivar digest_key: what digests are made with, once it is known.
    """

    remembers = False
    digest_key: bytes | None = None

    async def agree_on_digest_key(self, configured: str | None, source: str = SETTING) -> bytes:
        """The key for digests, the same on all servers of the database.

        :param configured: what the setting or the data directory gives; None for one that the database keeps.
        :param source: where it comes from, or should.
        :raises StartupError: if there are digests already that were made with another one.
        """
        drawn = secrets.token_urlsafe(48)
        given = fingerprint(configured) if configured is not None else None
        row = await self._fetch_one(self._writes, "agree_on_digest_key", given, drawn, fingerprint(drawn))
        refused = refused_key(row["outcome"], source)
        if refused is not None:
            raise StartupError(refused)
        if configured is None:
            log.info("digest_key_kept_in_database", setting=SETTING)
        self.digest_key = (row["secret"] if configured is None else configured).encode()
        return self.digest_key

    async def digests(self, users: list[str]) -> list[bytes]:
        """The digests of users, in their order."""
        key = self.digest_key or await self.agree_on_digest_key(None)
        return [digest_user(key, user) for user in users]

    async def digest(self, user_id: str) -> bytes:
        """The digest of a user."""
        return (await self.digests([user_id]))[0]
