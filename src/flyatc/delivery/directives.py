"""Cache-Control (RFC 9111 §5.2): its directives. Pure."""

import re
from collections.abc import Mapping
from functools import lru_cache

Directives = Mapping[bytes, bytes | None]  # lower-case name → argument without quotes, None where there is none

FOR_EVER = 2**31  # what counts as infinite (§1.2.2)
NONE: Directives = {}

_MEMBER = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*")+', re.DOTALL)
_LONGEST = 256  # longer values are read anew each time, so that no stranger can fill our memory with them
_LONGEST_READ = 2048  # octets; a value beyond it is not read, and so forbids everything
_UNREAD: Directives = {b"no-store": None, b"no-cache": None, b"no-transform": None}


def read(value: bytes) -> Directives:
    """Never fails. What is malformed is read so that more is forbidden, never less."""
    return _remembered(value) if len(value) <= _LONGEST else _read(value)


def _read(value: bytes) -> Directives:
    if len(value) > _LONGEST_READ:
        return _UNREAD
    found: dict[bytes, bytes | None] = {}
    # With a quote that is never closed, any member may be the one that forbids: quotes are then taken for nothing.
    members = _MEMBER.findall(value) if value.count(b'"') % 2 == 0 and b"\\" not in value else value.split(b",")
    for member in members:
        name, equals, argument = member.partition(b"=")
        name = name.strip(b' \t"').lower()
        if name:
            given = argument.strip(b' \t"') if equals else None
            found[name] = _both(name, found[name], given) if name in found else given
    return found


_remembered = lru_cache(1024)(_read)


def _both(name: bytes, one: bytes | None, other: bytes | None) -> bytes | None:
    """A directive that is there twice (§4.2.1): the stricter."""
    if one is None or other is None:
        return None
    if name in (b"private", b"no-cache"):
        return one + b"," + other
    return min(one, other, key=lambda argument: seconds(argument) or 0)


def seconds(argument: bytes | None) -> int | None:
    """Delta-seconds (§1.2.2), at most FOR_EVER; None for what is no number."""
    if argument is None or not argument.isdigit():
        return None
    return min(int(argument), FOR_EVER) if len(argument) <= 10 else FOR_EVER


def names(argument: bytes | None) -> frozenset[bytes]:
    """The fields in ``no-cache="a, b"`` and ``private="a, b"``, in lower case."""
    if not argument:
        return frozenset()
    return frozenset(name.strip(b" \t").lower() for name in argument.split(b",")) - {b""}
