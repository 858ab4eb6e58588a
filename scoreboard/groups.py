"""Groups: lists of users that administrators keep, and a board's ranking among the members of one.

Such a ranking is made when somebody asks, by one look at the totals for each member, so that members come and go and
scores change without anything to be told.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from scoreboard.errors import Invalid, NotFound
from scoreboard.model import ALL, GROUPS_PER_BOARD_MAX, Cursor, Page, Standing, Standings
from scoreboard.totals import Totals, View, ranked_page


class Group(msgspec.Struct, frozen=True):
    """A group of a board; ``members`` is their number, ``revision`` names this state of the list."""

    group_id: str
    members: int
    revision: str


class Groups(Totals):
    """Keeps the groups and ranks their members. Every method raises Unavailable when PostgreSQL does not answer."""

    async def put_group(self, board: str, group: str, members: list[str]) -> bool:
        """Make a group have these members and no others; True when it is new.

        Members who were hidden when they were erased are known again first, so that no list shows them.

        :raises NotFound: if there is no such board.
        :raises Invalid: if the board has GROUPS_PER_BOARD_MAX others.
        """
        if self.remembers or (await self._fetch_one(self._writes, "has_digests"))["has_digests"]:
            await self._fetch(self._writes, "recall_users", members, await self.digests(members))
        row = await self._fetch_one(self._writes, "put_group", board, group, members, GROUPS_PER_BOARD_MAX)
        match row["outcome"]:
            case "no_board":
                raise NotFound(f"there is no board {board!r}")
            case "too_many":
                raise Invalid(
                    "group", f"{group!r} would be one too many: the board {board!r} has {GROUPS_PER_BOARD_MAX} groups"
                )
        return bool(row["outcome"] == "created")

    async def delete_group(self, board: str, group: str) -> None:
        """Delete a group; scores stay.

        :raises NotFound: if there is no such group.
        """
        row = await self._fetch_one(self._writes, "delete_group", board, group)
        if not row["is_deleted"]:
            raise _no_group(board, group)

    async def leave_groups(self, user_id: str) -> int:
        """Take a user out of every group; how many they were."""
        row = await self._fetch_one(self._writes, "leave_groups", user_id)
        return int(row["groups_left"])

    async def list_groups(self, board: str, *, after: str = "", limit: int) -> list[Group]:
        """Groups of a board, in the order of their ids."""
        rows = await self._fetch(self._reads, "list_groups", board, after, limit)
        return [Group(row["group_id"], row["members"], row["revision"]) for row in rows]

    async def list_members(
        self, board: str, group: str, *, after: str = "", limit: int, with_hidden: bool
    ) -> tuple[int, list[str]]:
        """How many members of a group there are, and some in the order of their ids, at one moment.

        :param with_hidden: whether those are listed, and counted, whom the board hides.
        :raises NotFound: if there is no such group.
        """
        async with self._snapshot() as connection:
            total = (await self._group(connection, board, group)).members
            if not with_hidden:
                total -= (await self._run(connection, "count_hidden_members", board, group))[0]["hidden"]
            rows = await self._run(connection, "list_members", board, group, after, limit, with_hidden)
        return total, [row["user_id"] for row in rows]

    # -- the ranking within, on a connection that reads by indexes

    async def _group_page(
        self, connection: Any, view: View, group: str, *, offset: int, limit: int, after: Cursor | None
    ) -> Page:
        """A page of the members who have a score and are not hidden; ``after`` wins over ``offset``."""
        place = (after.score, after.user_id, after.reached) if after is not None else (None, None, None)
        skipped = 0 if after is not None else offset
        rows = await self._run(connection, "read_group_page", *view.key, group, view.ties, skipped, limit + 1, *place)
        return ranked_page(view.position, view.ties, rows, limit, view.period)

    async def _group_around(self, connection: Any, view: View, group: str, user_id: str, radius: int) -> Page | None:
        """A member with neighbours, or None for one without a score.

        :raises NotFound: if the user is no member.
        """
        rows = await self._run(connection, "read_group_around", *view.key, group, view.ties, user_id, radius)
        if not rows[0]["is_member"]:
            raise no_place(view.board, group, user_id)
        if rows[0]["user_id"] is None:
            return None
        page = ranked_page(view.position, view.ties, rows, len(rows), view.period)
        return msgspec.structs.replace(page, more=rows[0]["more"])

    async def _group_standings(
        self, connection: Any, view: View, group: str, users: Sequence[str]
    ) -> tuple[Standings, tuple[bool, ...]]:
        """The places of users among the members, None for one who has none, and whether each is a member."""
        rows = await self._run(connection, "read_group_standings", *view.key, group, view.ties, list(users))
        places = tuple(
            Standing(row["score"], row["rank"], row["below"], row["name"]) if row["score"] is not None else None
            for row in rows
        )
        return (
            Standings(view.position, rows[0]["total"], places, view.period),
            tuple(row["is_member"] for row in rows),
        )

    async def _group_view(
        self, connection: Any, board: str, group: str, window: str, first_day: str | None
    ) -> tuple[Group, View]:
        """A group and the window to rank it in. An unknown group is told before a window that the board does not have.

        :raises NotFound, Invalid: if there is no such board or group, or the board has no such window.
        """
        row = await self._one(connection, "read_group", board, group)
        if row is None:
            await self._view(connection, board, ALL, None)  # an unknown board is told before the group
            raise _no_group(board, group)
        return Group(group, row["members"], row["revision"]), await self._view(connection, board, window, first_day)

    async def _group(self, connection: object, board: str, group: str) -> Group:
        row = await self._one(connection, "read_group", board, group)
        if row is None:
            raise _no_group(board, group)
        return Group(group, row["members"], row["revision"])


def no_place(board: str, group: str, user_id: str) -> NotFound:
    """Why there is no place in a group for a user: the same for members without a score or hidden and for all others.

    Who is a member and hidden is told to nobody.
    """
    return NotFound(
        f"user {user_id!r} has no place in group {group!r} of board {board!r}: "
        "only members who have a score on the board have one"
    )


def _no_group(board: str, group: str) -> NotFound:
    return NotFound(f"there is no group {group!r} on the board {board!r}, or no such board")
