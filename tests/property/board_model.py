"""A board with everything that it can be set to, in plain Python: small enough to be seen to be right."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

Entry = tuple[int, str, int]


@dataclass
class Fact:
    """An event: whose, what was submitted and what the total changed by; when it was, and when it counts."""

    kind: str
    user: str
    value: int
    points: int
    at: datetime
    counted_at: datetime
    revokes: int | None = None
    hidden: bool = False
    """Whether the user is kept out of the ranking from then on."""


@dataclass
class Layout:
    """How a board is ranked from a seq on."""

    seq: int
    ties: str
    windows: tuple[str, ...]
    zone: str


@dataclass
class BoardModel:
    """Events and all that follows from them."""

    operator: str
    floor: int | None
    layouts: list[Layout]
    facts: list[Fact] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    hidden_everywhere: set[str] = field(default_factory=set)
    hidden_here: set[str] = field(default_factory=set)

    def submit(self, user: str, value: int, at: datetime) -> int:
        """The score after a submission."""
        before = self.total(user, len(self.facts))
        after = {"sum": (before or 0) + value, "best": max(value, before if before is not None else value)}.get(
            self.operator, value
        )
        after = after if self.floor is None else max(after, self.floor)
        hidden = self.is_hidden(user, len(self.facts)) if self.knows(user) else self.shall_hide(user)
        self.facts.append(Fact("score", user, value, after - (before or 0), at, at, hidden=hidden))
        return after

    def knows(self, user: str) -> bool:
        """Whether a user has events."""
        return any(fact.user == user for fact in self.facts)

    def shall_hide(self, user: str) -> bool:
        """Whether administrators want a user hidden, whatever the user has done since."""
        return user in self.hidden_everywhere | self.hidden_here

    def revoke(self, seq: int, at: datetime) -> None:
        """Undo a submission."""
        revoked, before = self.facts[seq - 1], self.total(self.facts[seq - 1].user, len(self.facts)) or 0
        hidden = self.is_hidden(revoked.user, len(self.facts))
        self.facts.append(Fact("revoke", revoked.user, 0, 0, at, revoked.at, seq, hidden))
        after = max(before - revoked.points, self.floor) if self.floor is not None else before - revoked.points
        if self.operator != "sum":
            after = self.total(revoked.user, len(self.facts)) or 0
        self.facts[-1].points = after - before

    def erase(self, user: str, pseudonym: str, at: datetime) -> None:
        """Put another name in the place of a user's."""
        for fact in self.facts:
            if fact.user == user:
                fact.user, fact.hidden = pseudonym, True
        self.facts.append(Fact("erase", pseudonym, 0, 0, at, at, hidden=True))

    def total(self, user: str, seq: int, window: str = "all", day: date | None = None, zone: str = "UTC") -> int | None:
        """A user's total after an event, in a period; None when there is none."""
        mine = [
            (number, fact)
            for number, fact in enumerate(self.facts[:seq], start=1)
            if fact.user == user
            and fact.kind in ("score", "revoke")
            and (day is None or first_day(window, zone, fact.counted_at) == day)
        ]
        if not mine:
            return None
        if self.operator == "sum":
            return sum(fact.points for _, fact in mine)
        gone = {fact.revokes for _, fact in mine}
        left = [fact.value for number, fact in mine if fact.kind == "score" and number not in gone]
        if self.operator == "last":
            return left[-1] if left else 0
        standing, was_empty = 0, False
        for _, fact in mine:
            standing += 1 if fact.kind == "score" else -1
            was_empty = was_empty or standing == 0
        return max([*left, 0] if was_empty else left)

    def reached(self, user: str, seq: int, window: str, day: date | None, zone: str) -> int:
        """The seq since which a total is what it is."""
        now = self.total(user, seq, window, day, zone)
        while seq > 1 and self.total(user, seq - 1, window, day, zone) == now:
            seq -= 1
        return seq

    def is_hidden(self, user: str, seq: int) -> bool:
        return [fact.hidden for fact in self.facts[:seq] if fact.user == user][-1]

    def layout(self, seq: int) -> Layout:
        return [layout for layout in self.layouts if layout.seq <= seq][-1]

    def ranking(self, seq: int, window: str = "all", day: date | None = None) -> list[Entry]:
        """(rank, user, score) after an event, by the board's ties."""
        ties, zone = self.layout(seq).ties, self.layout(seq).zone
        users = {fact.user for fact in self.facts[:seq] if fact.kind == "score"}
        totals = {user: self.total(user, seq, window, day, zone) for user in users if not self.is_hidden(user, seq)}
        scores = {user: score for user, score in totals.items() if score is not None}
        if ties == "first":
            order = sorted(scores, key=lambda user: (-scores[user], self.reached(user, seq, window, day, zone)))
            return [(place, user, scores[user]) for place, user in enumerate(order, start=1)]
        above = {user: [other for other in scores.values() if other > scores[user]] for user in scores}
        ranks = {user: 1 + len(set(above[user]) if ties == "dense" else above[user]) for user in scores}
        return [(ranks[user], user, scores[user]) for user in sorted(scores, key=lambda u: (-scores[u], u.encode()))]


def first_day(window: str, zone: str, at: datetime) -> date:
    """The first day of the period that a time is in."""
    day = at.astimezone(ZoneInfo(zone)).date()
    return {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}[window]
