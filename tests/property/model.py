"""What a scoreboard is, in plain Python: small enough to be seen to be right."""

from dataclasses import dataclass, field


@dataclass
class Model:
    """A ledger of (user, points, key) and all that follows from it."""

    points: dict[str, int]
    ledger: list[tuple[str, str, str | None]] = field(default_factory=list)

    def submit(self, user: str, action: str, key: str | None) -> tuple[str, int, int]:
        """The outcome, seq and score of one submission."""
        for seq, (by, done, used) in enumerate(self.ledger, start=1):
            if key is not None and (by, used) == (user, key):
                return ("replayed", seq, self.score(user, seq)) if done == action else ("idempotency_mismatch", 0, 0)
        if action not in self.points:
            return "unknown_action", 0, 0
        self.ledger.append((user, action, key))
        return "recorded", len(self.ledger), self.score(user, len(self.ledger))

    def score(self, user: str, seq: int) -> int:
        """A user's total after an event."""
        return sum(self.points[action] for by, action, _ in self.ledger[:seq] if by == user)

    def ranking(self, seq: int) -> list[tuple[int, str, int]]:
        """(rank, user, score) after an event: score high to low, then the user's bytes; ties share a rank."""
        users = {user for user, _, _ in self.ledger[:seq]}
        scores = sorted(((user, self.score(user, seq)) for user in users), key=lambda e: (-e[1], e[0].encode()))
        return [(1 + sum(other > score for _, other in scores), user, score) for user, score in scores]
