"""Validation, cursors, ranks and limits: pure properties."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.auth import Authenticator, sign_token
from scoreboard.contracts import load_scripts
from scoreboard.cursors import decode_cursor, pack_cursor
from scoreboard.errors import Invalid, StartupError, Unauthenticated
from scoreboard.feed import parse_position
from scoreboard.http.leaderboard import matches
from scoreboard.limits import LocalRates, Rate
from scoreboard.model import (
    SCORE_MAX,
    Cursor,
    Position,
    Scored,
    Ties,
    rank_entries,
    validate_key,
    validate_name,
    validate_user_id,
)

SCORES = st.integers(-SCORE_MAX, SCORE_MAX)
USER_IDS = st.text(min_size=1, max_size=64).filter(lambda text: validate_user_id(text) is None)
SECRET = "a secret of at least thirty-two bytes"


@given(st.text(max_size=70))
def test_user_ids_are_what_the_contract_says(text: str) -> None:
    control = any(unicodedata.category(char) in ("Cc", "Cs") for char in text)
    acceptable = 1 <= len(text) <= 64 and not control and text.strip() != ""
    assert (validate_user_id(text) is None) == acceptable


@given(st.text(max_size=70))
def test_names_are_plain(text: str) -> None:
    plain = 1 <= len(text) <= 64 and all(char.isascii() and (char.isalnum() or char in "._-") for char in text)
    assert (validate_name(text) is None) == plain


@given(st.text(max_size=300))
def test_keys_are_printable_ascii(text: str) -> None:
    assert (validate_key(text) is None) == (1 <= len(text) <= 255 and all(" " <= char <= "~" for char in text))


@given(st.builds(Cursor, SCORES, USER_IDS, *[st.integers(0, SCORE_MAX)] * 2, st.binary(min_size=8, max_size=8)))
def test_a_cursor_says_what_it_was_made_of(cursor: Cursor) -> None:
    assert decode_cursor(pack_cursor(cursor)) == cursor


@given(st.text(max_size=40))
def test_any_other_cursor_is_refused(text: str) -> None:
    try:
        cursor = decode_cursor(text)
    except Invalid:
        return
    assert decode_cursor(pack_cursor(cursor)) == cursor


@given(st.lists(st.integers(-3, 3), max_size=20), st.sampled_from(["shared", "dense", "first"]), st.data())
def test_ranks_of_any_slice_are_those_of_the_whole(scores: list[int], ties: Ties, data: st.DataObject) -> None:
    whole = [Scored(f"user{i:02d}", score) for i, score in enumerate(sorted(scores, reverse=True))]
    ranks = {
        "shared": [1 + sum(other > score for other in scores) for score in sorted(scores, reverse=True)],
        "dense": [1 + len({other for other in scores if other > score}) for score in sorted(scores, reverse=True)],
        "first": list(range(1, len(scores) + 1)),
    }[ties]
    start = data.draw(st.integers(0, len(whole)))
    part = whole[start : start + data.draw(st.integers(0, 20))]
    entries = rank_entries(part, ties, offset=start, first_rank=ranks[start] if part else 0)
    assert [(e.user_id, e.rank) for e in entries] == [
        (entry.user_id, rank) for entry, rank in zip(part, ranks[start:], strict=False)
    ]


@given(st.from_regex(r"[a-z0-9]{4,8}", fullmatch=True), st.integers(0, SCORE_MAX))
def test_a_position_reads_as_it_is_written(epoch: str, seq: int) -> None:
    assert parse_position(str(Position(epoch, seq))) == Position(epoch, seq)


@pytest.mark.parametrize("text", ["", "-", "e1", "e1-", "-5", "e1-x", "e1--", "e1-1.5", "e1-٣", "e1-" + "9" * 17])
def test_what_is_no_position_is_none(text: str) -> None:
    assert parse_position(text) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False)],
)
def test_if_none_match_compares_weakly(header: str | None, expected: bool) -> None:
    assert matches(header, '"a"') is expected


@given(st.integers(1, 20), st.integers(1, 60))
def test_a_local_rate_admits_its_quota_at_once_and_no_more(quota: int, window_s: int) -> None:
    rates = LocalRates(Rate(quota=quota, window_s=window_s * 1_000))
    admitted = [rates.admit("user").admitted for _ in range(quota + 3)]
    assert admitted == [True] * quota + [False] * 3
    assert rates.admit("other").admitted


@pytest.mark.parametrize("key", ["short", "x" * 31])
def test_weak_secrets_are_refused(key: str) -> None:
    with pytest.raises(StartupError, match="bytes"):
        Authenticator(key, ["HS256"])


def test_mixed_algorithms_are_refused() -> None:
    with pytest.raises(StartupError, match="mixes"):
        Authenticator(SECRET, ["HS256", "RS256"])


@given(USER_IDS, st.sets(st.sampled_from(["admin", "scores:any"])))
def test_a_token_says_who_and_what(user_id: str, scopes: set[str]) -> None:
    token = sign_token(SECRET, "HS256", user_id=user_id, scope=" ".join(scopes), ttl_s=60, extra={})
    caller = Authenticator(SECRET, ["HS256"]).verify(f"Bearer {token}")
    assert (caller.user_id, caller.scopes) == (user_id, frozenset(scopes))


def test_a_verified_token_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = Authenticator(SECRET, ["HS256"])
    token = sign_token(SECRET, "HS256", user_id="a", scope="", ttl_s=60, extra={})
    authenticator.verify_token(token)
    later = time.time() + 61
    monkeypatch.setattr("scoreboard.auth.time.time", lambda: later)
    with pytest.raises(Unauthenticated, match="expired"):
        authenticator.verify_token(token)


def test_every_script_is_named_by_its_verb() -> None:
    assert all("_" in name for name in load_scripts())
