"""What a user id or a display name may look like, and when two of them look alike.

People and programs have to tell users apart by these texts, so each has one spelling (Unicode NFC) and nothing in it
that can't be seen: an invisible character makes a second user who looks like the first, a control of the writing
direction turns the text beside it around. The joiners ZWJ and ZWNJ are kept where writing and emoji need them: Persian
and Indic words, families of emoji. The tags that make the flags of England, Scotland and Wales are kept too.

Nearly all ids are ASCII, for which one look is enough; a submission pays for no more than that.

What is an emoji is taken from a table, the property Extended_Pictographic with the letters of flags and the colours of
skin: Python's own tables do not have it. Digits, ``#`` and ``*``, which only become emoji by what follows, are none
here, so that no joiner hides between digits.
Source: Unicode Standard Annex 15 (normalization), Technical Standard 51 (emoji).
"""

import re
import unicodedata
from unicodedata import category, normalize

from scoreboard.shown import show

NFC_SHRINK_MAX = 4
"""No character decomposes into more than four, so NFC never shortens a text by more than that."""

_JOINERS = "\u200c\u200d"
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Letters and symbols by category that leave a blank: fillers of Hangul, the empty Braille pattern."""
_REFUSED = {
    "Cc": "a control character",
    "Cs": "half of a surrogate pair",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
    "Cf": "which can't be seen",
}
_BLACK_FLAG = "\U0001f3f4"
_FLAG = re.compile(f"{_BLACK_FLAG}[\U000e0030-\U000e0039\U000e0061-\U000e007a]{{3,7}}\U000e007f")
_EMOJI_RANGES = """
    A9 AE 203C 2049 2122 2139 2194-2199 21A9-21AA 231A-231B 2328 23CF 23E9-23F3 23F8-23FA 24C2 25AA-25AB 25B6 25C0
    25FB-25FE 2600-2604 260E 2611 2614-2615 2618 261D 2620 2622-2623 2626 262A 262E-262F 2638-263A 2640 2642 2648-2653
    265F-2660 2663 2665-2666 2668 267B 267E-267F 2692-2697 2699 269B-269C 26A0-26A1 26A7 26AA-26AB 26B0-26B1 26BD-26BE
    26C4-26C5 26C8 26CE-26CF 26D1 26D3-26D4 26E9-26EA 26F0-26F5 26F7-26FA 26FD 2702 2705 2708-270D 270F 2712 2714 2716
    271D 2721 2728 2733-2734 2744 2747 274C 274E 2753-2755 2757 2763-2764 2795-2797 27A1 27B0 27BF 2934-2935 2B05-2B07
    2B1B-2B1C 2B50 2B55 3030 303D 3297 3299 1F004 1F02C-1F02F 1F094-1F09F 1F0AF-1F0B0 1F0C0 1F0CF-1F0D0 1F0F6-1F0FF
    1F170-1F171 1F17E-1F17F 1F18E 1F191-1F19A 1F1AF-1F1FF 1F201-1F20F 1F21A 1F22F 1F232-1F23A 1F23C-1F23F 1F249-1F25F
    1F266-1F321 1F324-1F393 1F396-1F397 1F399-1F39B 1F39E-1F3F0 1F3F3-1F3F5 1F3F7-1F4FD 1F4FF-1F53D 1F549-1F54E
    1F550-1F567 1F56F-1F570 1F573-1F57A 1F587 1F58A-1F58D 1F590 1F595-1F596 1F5A4-1F5A5 1F5A8 1F5B1-1F5B2 1F5BC
    1F5C2-1F5C4 1F5D1-1F5D3 1F5DC-1F5DE 1F5E1 1F5E3 1F5E8 1F5EF 1F5F3 1F5FA-1F64F 1F680-1F6C5 1F6CB-1F6D2 1F6D5-1F6E5
    1F6E9 1F6EB-1F6F0 1F6F3-1F6FF 1F7DC-1F7F0 1F80C-1F80F 1F848-1F84F 1F85A-1F85F 1F888-1F88F 1F8AE-1F8AF 1F8BC-1F8BF
    1F8C2-1F8CF 1F8D9-1F8FF 1F90C-1F93A 1F93C-1F945 1F947-1F9FF 1FA58-1FA5F 1FA6E-1FAFF 1FC00-1FFFD
"""


def _read_ranges(text: str) -> frozenset[str]:
    pairs = [part.partition("-")[::2] for part in text.split()]
    return frozenset(chr(code) for first, last in pairs for code in range(int(first, 16), int(last or first, 16) + 1))


EMOJI = _read_ranges(_EMOJI_RANGES)


def nfc(value: str, chars_max: int) -> str:
    """A text in its one spelling.

    A text that is too long in any spelling comes back as it is: sorting the marks of a long one takes time that grows
    with its square, and whoever checks the length refuses it anyway.

    :param chars_max: how many characters it may have in the end.
    """
    if value.isascii() or len(value) > NFC_SHRINK_MAX * chars_max:
        return value
    return normalize("NFC", value)


def fold(value: str) -> str:
    """A text as it is compared where case, accents and forms of letters make no difference."""
    if value.isascii():
        return value.lower()
    return "".join(char for char in normalize("NFKD", value) if category(char)[0] != "M").casefold()


def wrong_in_name(value: str, chars_max: int) -> str | None:
    """What is wrong with a user id or display name that is in NFC, or None."""
    if not value:
        return f"is empty; give it 1 to {chars_max} characters"
    if len(value) > chars_max:
        return f"{show(value)} has {len(value)} characters, more than {chars_max}"
    if value.isascii() and value.isprintable():
        return f"{value!r} is blank" if value.isspace() else None
    text = _FLAG.sub(_BLACK_FLAG, value)
    is_seen = False
    for place, char in enumerate(text):
        kind = category(char)
        if kind in _REFUSED and not (char in _JOINERS and _joins(text, place)):
            return f"{value!r} has {_name(char)}, {_REFUSED[kind]}"
        is_seen = is_seen or char in EMOJI or (kind[0] in "LNSP" and char not in _INVISIBLE)
    return None if is_seen else f"{value!r} is blank: nothing in it can be seen"


def _joins(text: str, place: int) -> bool:
    """Whether a joiner stands after a letter, a mark or an emoji, and before a letter or an emoji."""
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if not before or not after:
        return False
    return (category(before)[0] in "LM" or before in EMOJI) and (category(after)[0] == "L" or after in EMOJI)


def _name(char: str) -> str:
    """A character for people: its number, and its name where it has one."""
    name = unicodedata.name(char, "")
    return f"U+{ord(char):04X} {name}".rstrip()
