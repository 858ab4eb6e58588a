"""Who is known or has scores: whether a display name is another user's id.

Ids are compared folded, without case, accents and forms of letters. PostgreSQL folds those in ASCII when a user becomes
known, or gets a first score; the others wait until somebody is named, and are folded here.
"""

from scoreboard.digests import Digests
from scoreboard.names import fold

SLICE_IDS = 1_000
SLICES_MAX = 20
"""Slices of ids that one naming folds, some 20 ms each. Where more wait, those are compared by the letter only, and
folded by the next namings."""


class Players(Digests):
    """Looks users up by what their ids look like. Every method raises Unavailable when PostgreSQL does not answer."""

    async def find_namesake(self, user_id: str, name: str) -> str | None:
        """The id of another user that a name of this one would look like, or None."""
        for _ in range(SLICES_MAX):
            rows = await self._fetch(self._repairs, "list_unfolded", SLICE_IDS)
            if not rows:
                break
            users = [row["user_id"] for row in rows]
            await self._fetch(self._repairs, "fold_players", users, [fold(user) for user in users])
        rows = await self._fetch(self._repairs, "find_namesake", user_id, name, fold(name))
        return rows[0]["user_id"] if rows else None
