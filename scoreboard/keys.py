"""The names of what a board has in Redis. All of them share the hash tag ``{board}``, so a script touches one slot."""

import secrets

from scoreboard.model import ALL


def live(board: str) -> str:
    """What the names of a board's ranking begin with."""
    return f"sb:{{{board}}}"


def rebuilt(board: str) -> str:
    """What the names of a new ranking begin with, while it is made beside the live one."""
    return f"sb:{{{board}}}:rebuilt:{secrets.token_hex(8)}"


def head(prefix: str) -> list[str]:
    """The keys with which every script begins: head and display names."""
    return [f"{prefix}:head", f"{prefix}:names"]


def ranking(prefix: str, window: str, first_day: str = "") -> list[str]:
    """The keys of the ranking of a window and period: its entries, and what its ties need."""
    name = f"{prefix}:{ALL}" if window == ALL else f"{prefix}:{window}:{first_day}"
    return [name, f"{name}:ties"]


def whole(prefix: str) -> list[str]:
    """The keys of what every board has: head, names, and the ranking of all."""
    return head(prefix) + ranking(prefix, ALL)


def channel(board: str) -> str:
    """The channel of a board's events."""
    return f"sb:{{{board}}}:events"


def board_of(name: str) -> str:
    """The board whose channel it is."""
    return name[name.index("{") + 1 : name.index("}")]
