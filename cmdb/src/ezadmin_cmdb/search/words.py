"""What a word of a search can be: a network, an address, initial consonants of Hangul."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, and_, func, literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
FIRST_SYLLABLE = 0xAC00
SYLLABLES_OF_AN_INITIAL = 588
_INITIALS_AND_MORE = re.compile(f"[{INITIALS}가-힣0-9A-Za-z]*[{INITIALS}][{INITIALS}가-힣0-9A-Za-z]*")


def initials_pattern(word: str) -> str | None:
    """A regular expression for a word with initial consonants: each stands for any syllable that begins with it.

    None for a word without, or with other signs. ``ㅅㅂ`` finds 서버, ``db서ㅂ`` finds DB서버.
    """
    if not _INITIALS_AND_MORE.fullmatch(word):
        return None
    return "".join(_syllables(sign) if sign in INITIALS else sign for sign in word)


def _syllables(initial: str) -> str:
    first = FIRST_SYLLABLE + SYLLABLES_OF_AN_INITIAL * INITIALS.index(initial)
    return f"[{initial}{chr(first)}-{chr(first + SYLLABLES_OF_AN_INITIAL - 1)}]"


def contains(column: Any, word: str) -> ColumnElement[bool]:
    """The condition that a column holds a word."""
    pattern = initials_pattern(word)
    found: ColumnElement[bool] = (
        column.contains(word, autoescape=True) if pattern is None else column.regexp_match(pattern)
    )
    return found


def is_in(text: str, word: str) -> bool:
    """Whether a text holds a word, as :func:`contains` sees it."""
    pattern = initials_pattern(word)
    if pattern is None:
        return word.casefold() in text.casefold()
    return re.search(pattern, text, re.IGNORECASE) is not None


def packed(address: str) -> bytes | None:
    """An address as the bytes by which it is sorted and compared, 4 or 16; None for what is none."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).packed
    except ValueError:
        return None


def network(word: str) -> Network | None:
    """The network that a word means (``10.1.0.0/16``, also with bits of a host set); None for anything else."""
    if "/" not in word:
        return None
    try:
        return ipaddress.ip_network(word, strict=False)
    except ValueError:
        return None


def within(number: Any, found: Network) -> ColumnElement[bool]:
    """The condition that an address, as :func:`packed` writes it, lies in a network."""
    first, last = (literal(one.packed, LargeBinary) for one in (found[0], found[-1]))
    return and_(func.length(number) == found.max_prefixlen // 8, number.between(first, last))


def mac(word: str) -> str | None:
    """A MAC address, or the beginning of one with a separator, as it is stored: ``aa:bb`` is ``AA-BB``."""
    if re.fullmatch(r"[0-9a-fA-F]{12}", word):
        word = ":".join(word[at : at + 2] for at in range(0, 12, 2))
    if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{1,2})+", word):
        return None
    return word.upper().replace(":", "-")
