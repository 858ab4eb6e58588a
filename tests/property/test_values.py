"""Validation, cursors, ranks and limits: pure properties."""

import time
import unicodedata

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from scoreboard.auth import Authenticator, check_scopes, sign_demo_token, sign_token
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
    validate_display_name,
    validate_key,
    validate_name,
    validate_user_id,
)
from scoreboard.names import fold, nfc

SCORES = st.integers(-SCORE_MAX, SCORE_MAX)
USER_IDS = st.text(min_size=1, max_size=64).filter(lambda text: validate_user_id(text) is None)
SECRET = "a secret of at least thirty-two bytes"


LETTERS = "aZß٣9é中\u0627\u0915ﬁ"
MARKS = "\u0301\u094d\ufe0f\u20e3"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
ODD = "\u115f\u1160\u3164\uffa0\u2800\u2028\u2029\u202e\u2066\u200b\u00ad\u061c\ufeff\U000e0061\U000e007f .\n\0\ud800"
PARTS = st.sampled_from(
    [*LETTERS, *MARKS, *ODD, "\u200c", "\u200d", "\U0001f3f4", "\U0001f44b", "\U0001f3fd", ENGLAND, FAMILY]
)
TEXTS = st.text(max_size=70) | st.lists(PARTS, max_size=8).map("".join)
"""Any texts, and those made of what the rules are about."""


def is_letter(char: str) -> bool:
    return unicodedata.category(char)[0] == "L"


def is_emoji(char: str) -> bool:
    """Of those that these tests write."""
    return char in "\U0001f3f4\U0001f44b\U0001f3fd\U0001f468\U0001f469\U0001f467"


def looks_right(text: str, chars_max: int) -> bool:
    """The rules of user ids and display names, one after the other."""
    if not 1 <= len(text) <= chars_max:
        return False
    text = text.replace(ENGLAND, "\U0001f3f4")
    kinds = [unicodedata.category(char) for char in text]
    if {"Cc", "Cs", "Zl", "Zp"} & set(kinds):
        return False
    for place, kind in enumerate(kinds):
        if kind != "Cf":
            continue
        if text[place] not in "\u200c\u200d" or not 0 < place < len(text) - 1:
            return False
        before, after = text[place - 1], text[place + 1]
        if not (is_letter(before) or unicodedata.category(before)[0] == "M" or is_emoji(before)):
            return False
        if not (is_letter(after) or is_emoji(after)):
            return False
    fillers = "\u115f\u1160\u3164\uffa0\u2800"
    return any(kind[0] in "LNSP" and char not in fillers for kind, char in zip(kinds, text, strict=True))


@given(TEXTS.map(lambda text: unicodedata.normalize("NFC", text)))
@example(ENGLAND)
@example(FAMILY)
@example("\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")
@example("\u0915\u094d\u200d\u0937")
def test_user_ids_and_display_names_are_what_people_can_tell_apart(text: str) -> None:
    assert (validate_user_id(text) is None) == (looks_right(text, 64) and text not in (".", ".."))
    assert (validate_display_name(text) is None) == looks_right(text, 100)


@pytest.mark.parametrize(
    "text",
    ["a\u200db\u200d", "\u200da", "1\u200d2", "a\u200b", "a\u202eb", "\u2800", "\u0301", "\ufe0f", "a\u2028", "\xa0",
     " ", ENGLAND[:-1], "a" + ENGLAND[1:], "\U0001f3f4" + "\U000e0061" * 20 + "\U000e007f", ".", ".."],
)  # fmt: skip
def test_what_looks_like_another_id_or_like_nothing_is_refused(text: str) -> None:
    assert validate_user_id(text) is not None


@pytest.mark.parametrize(
    "text",
    ["...", "a b", "Ünal ☃", "\U0001f44b\U0001f3fd", "\U0001f44b\U0001f3fd\u200da", "\u2764\ufe0f\u200d\U0001f525",
     "\U0001f3f3\ufe0f\u200d\U0001f308", "1\ufe0f\u20e3", "\U0001f1e9\U0001f1ea", "\u115fa"],
)  # fmt: skip
def test_writing_and_emoji_of_all_kinds_may_be_ids(text: str) -> None:
    assert validate_user_id(text) is None


@given(TEXTS, st.integers(1, 100))
def test_normalising_is_unicodes_and_forgets_no_text_that_fits(text: str, chars_max: int) -> None:
    normal = unicodedata.normalize("NFC", text)
    assert nfc(text, chars_max) == normal or (len(normal) > chars_max and nfc(text, chars_max) == text)


def test_normalising_takes_no_longer_than_reading() -> None:
    """Sorting the marks of a text takes time with the square of its length."""
    marks = ("\u0301\u0316" * 500_000)[:1_000_000]
    began = time.perf_counter()
    assert validate_user_id(nfc("a" + marks, 64)) is not None
    assert time.perf_counter() - began < 0.05


@given(TEXTS)
def test_folding_makes_one_of_what_differs_in_case_and_accents(text: str) -> None:
    marked = "".join(char for char in unicodedata.normalize("NFKD", text) if unicodedata.category(char)[0] != "M")
    assert fold(text) == marked.casefold()
    assert fold("ÀÉîõü ﬁ Straße") == fold("aeiou FI STRASSE")


@given(st.text(max_size=70))
@example(".")
@example("..")
def test_names_are_plain(text: str) -> None:
    plain = 1 <= len(text) <= 64 and all(char.isascii() and (char.isalnum() or char in "._-") for char in text)
    assert (validate_name(text) is None) == (plain and text not in (".", ".."))


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


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("short", "5 bytes"),
        ("x" * 31, "31 bytes"),
        ("x" * 64, "one character, repeated"),
        ("abcdefg" * 9, "7 different"),
    ],
)
def test_secrets_that_can_be_guessed_are_refused(key: str, why: str) -> None:
    with pytest.raises(StartupError, match=f"SCOREBOARD_JWT_SECRET: .*{why}"):
        Authenticator(key, ["HS256"])


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, private: bool = False) -> str:
    if private:
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def test_public_keys_that_are_weak_private_or_of_another_curve_are_refused() -> None:
    long, short = rsa.generate_private_key(65_537, 2_048), rsa.generate_private_key(65_537, 1_024)
    curve = ec.generate_private_key(ec.SECP256R1())
    Authenticator(pem(long), ["RS256", "PS512"])
    Authenticator(pem(curve), ["ES256"])
    for key, algorithm, why in [
        (pem(short), "RS256", "1024 bits"),
        (pem(long, private=True), "RS256", "private"),
        (pem(curve, private=True), "ES256", "private"),
        (pem(curve), "ES384", "not a key for ES384, which needs .*P-384"),
        (pem(curve), "ES512", "not a key for ES512, which needs .*P-521"),
        (pem(long), "ES256", "not a key for ES256"),
        ("nothing", "RS256", "not a key for RS256"),
    ]:
        with pytest.raises(StartupError, match=f"SCOREBOARD_JWT_PUBLIC_KEY: .*{why}"):
            Authenticator(key, [algorithm])


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


def signed(**claims: object) -> str:
    return jwt.encode({"sub": "a", "exp": int(time.time()) + 60, **claims}, SECRET, algorithm="HS256")


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_clocks_may_differ_by_the_leeway_and_no_more(claim: str) -> None:
    sign = -1 if claim == "exp" else 1
    authenticator = Authenticator(SECRET, ["HS256"], leeway_s=10)
    for difference_s, is_accepted in ((5, True), (15, False)):
        token = signed(**{claim: int(time.time()) + sign * difference_s})
        if is_accepted:
            assert authenticator.verify_token(token).user_id == "a"
            continue
        with pytest.raises(Unauthenticated):
            authenticator.verify_token(token)


def test_a_token_that_is_remembered_is_accepted_up_to_the_leeway(monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = Authenticator(SECRET, ["HS256"], leeway_s=10)
    now = time.time()
    token = signed(exp=int(now) + 60)
    assert authenticator.verify_token(token).expires_at == int(now) + 70
    for later_s, is_accepted in ((65, True), (71, False)):
        monkeypatch.setattr("scoreboard.auth.time.time", lambda later_s=later_s: now + later_s)
        if is_accepted:
            authenticator.verify_token(token)
            continue
        with pytest.raises(Unauthenticated, match="expired"):
            authenticator.verify_token(token)


def test_a_tokens_sub_has_one_spelling() -> None:
    token = signed(sub="e\u0301")
    assert Authenticator(SECRET, ["HS256"]).verify_token(token).user_id == "é"
    with pytest.raises(Unauthenticated, match="200B"):
        Authenticator(SECRET, ["HS256"]).verify_token(signed(sub="a\u200b"))


def test_a_demo_token_is_good_for_the_demo_alone() -> None:
    demo_key = "another secret, of the demo, and long enough"
    authenticator = Authenticator(SECRET, ["HS256"], demo_key=demo_key)
    caller = authenticator.verify_token(sign_demo_token(demo_key, "demo-anna"))
    assert (caller.user_id, caller.is_demo, caller.scopes) == ("demo-anna", True, frozenset())
    for refused in (
        sign_demo_token(demo_key, "alice"),  # no user of the demo
        sign_demo_token(SECRET, "demo-anna"),  # the operator's key
        jwt.encode({"sub": "demo-anna", "exp": 2**33}, demo_key, algorithm="HS256"),  # the demo's key, not named
        jwt.encode({"sub": "demo-a", "exp": 2**33}, demo_key, algorithm="HS256", headers={"kid": "scoreboard-demo"}),
    ):
        with pytest.raises(Unauthenticated):
            authenticator.verify_token(refused)
    with pytest.raises(Unauthenticated):  # where there is no demo
        Authenticator(SECRET, ["HS256"]).verify_token(sign_demo_token(demo_key, "demo-anna"))
    wide = {"sub": "demo-a", "exp": 2**33, "aud": "scoreboard-demo", "scope": "admin scores:any"}
    token = jwt.encode(wide, demo_key, algorithm="HS256", headers={"kid": "scoreboard-demo"})
    assert authenticator.verify_token(token).scopes == frozenset()


@pytest.mark.parametrize("scope", ["root", "scores:all", "admin root", "Admin"])
def test_scopes_that_do_not_exist_are_refused(scope: str) -> None:
    with pytest.raises(StartupError, match="boards:read"):
        check_scopes(scope)
    check_scopes("admin  scores:any boards:read")


def test_every_script_is_named_by_its_verb() -> None:
    assert all("_" in name for name in load_scripts())
