"""Rankings made by hand, as a rebuild makes them, for tests of the scripts."""

from collections.abc import Mapping

from scoreboard import keys
from scoreboard.model import ALL, Head, Period, Scored, Ties
from scoreboard.ranks import NewRanking, Ranks, Status


def head_key(board: str = "global") -> str:
    return keys.head(keys.live(board))[0]


def all_key(board: str = "global") -> str:
    return keys.ranking(keys.live(board), ALL)[0]


async def load(
    ranks: Ranks,
    board: str,
    head: Head,
    scores: Mapping[str, int],
    *,
    ties: Ties = "shared",
    periods: tuple[Period, ...] = (),
    missing: int = 0,
) -> NewRanking:
    """A new ranking beside the live one. :param missing: entries that it is said to have and has not."""
    new = NewRanking(keys.rebuilt(board), head, ties, periods)
    if scores:
        entries = [Scored(user, score, None, seq) for seq, (user, score) in enumerate(scores.items(), start=1)]
        await ranks.load_entries(new, ALL, entries)
    new.sizes[ALL] = new.size + missing
    await ranks.load_head(new)
    return new


async def start(
    ranks: Ranks,
    board: str,
    head: Head,
    scores: Mapping[str, int],
    *,
    ties: Ties = "shared",
    periods: tuple[Period, ...] = (),
    missing: int = 0,
) -> tuple[Status, int]:
    """Put a new ranking in the place of the live one, if that is not further."""
    new = await load(ranks, board, head, scores, ties=ties, periods=periods, missing=missing)
    return await ranks.swap_board(board, new)
