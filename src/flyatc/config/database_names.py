"""Names and patterns in ``databases``. Pure.

A pattern has ``*``, ``?`` or ``[…]``, none of which matches a slash: ``*.sqlite3``, ``shards/*.db``. A name or pattern
after ``!`` is left out on purpose: it is neither saved nor reported.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase

OUT = "!"
_MAGIC = "*?["


def is_pattern(text: str) -> bool:
    return text.startswith(OUT) or any(letter in text for letter in _MAGIC)


def split(texts: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the plain names, and the patterns."""
    texts = list(texts)
    return [one for one in texts if not is_pattern(one)], tuple(one for one in texts if is_pattern(one))


def matches(patterns: Iterable[str], name: str) -> bool:
    """Return whether a database of this name is saved."""
    patterns = list(patterns)
    return not left_out(patterns, name) and any(_matches(one, name) for one in patterns if not one.startswith(OUT))


def left_out(patterns: Iterable[str], name: str) -> bool:
    return any(_matches(one.removeprefix(OUT), name) for one in patterns if one.startswith(OUT))


def _matches(pattern: str, name: str) -> bool:
    """Compare segment by segment. Linear in practice: names and patterns are bounded by ``validate.database``."""
    wanted, found = pattern.split("/"), name.split("/")
    return len(wanted) == len(found) and all(fnmatchcase(*pair) for pair in zip(found, wanted, strict=True))
