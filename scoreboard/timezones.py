"""Time zones of boards. A name is taken only where Python and the database both know it and mean the same by it.

Neither list is enough. Python lists ``localtime``, which PostgreSQL may not know, and which is another zone on each
machine. PostgreSQL takes ``CET`` for an abbreviation that has no summer time, while the zone of that name has one.
A board whose zone the database does not know can neither be written nor ranked.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from scoreboard.shown import show

ALWAYS_KNOWN = "UTC"
OF_A_MACHINE = frozenset({"localtime", "posixrules", "Factory"})
"""Names that stand for whatever the machine is set to, or for nothing."""
OTHER_FORMS = ("posix/", "right/")
"""Folders that hold all zones once more, with and without leap seconds."""
COMPARED_DAYS = 400
COMPARED_EVERY_DAYS = 10
"""How far ahead, and how often, a zone's distance from UTC is compared: every change of clocks of a year is in it."""


class ZoneRules(msgspec.Struct, frozen=True):
    """How the database understands a name: ``is_abbreviation``: it is one too, which wins over the zone."""

    is_abbreviation: bool
    offsets_s: tuple[int, ...]


class ZoneReader(Protocol):
    """Who asks the database."""

    async def read_timezone(self, name: str, moments: list[datetime]) -> ZoneRules | None: ...


@cache
def names() -> frozenset[str]:
    """The names that Python knows and that mean the same everywhere, read once."""
    return frozenset(
        name for name in available_timezones() if name not in OF_A_MACHINE and not name.startswith(OTHER_FORMS)
    )


async def check_timezone(reader: ZoneReader, name: str) -> str | None:
    """What is wrong with the name of a time zone, or None."""
    if name == ALWAYS_KNOWN:
        return None
    if name not in names():
        return f"{show(name)} is not a name of the IANA time zone database, such as Europe/Berlin"
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    moments = [now + timedelta(days=days) for days in range(0, COMPARED_DAYS, COMPARED_EVERY_DAYS)]
    rules = await reader.read_timezone(name, moments)
    if rules is None:
        return f"the database does not know {show(name)}; choose another name of the same zone"
    zone = ZoneInfo(name)
    ours = tuple(int((moment.astimezone(zone).utcoffset() or timedelta()).total_seconds()) for moment in moments)
    # Without an abbreviation in the way, a difference is one of editions of the zone data, and the database's counts.
    if rules.is_abbreviation and rules.offsets_s != ours:
        return (
            f"the database takes {show(name)} for an abbreviation without summer time; name the zone by a place, "
            "such as Europe/Berlin"
        )
    return None
