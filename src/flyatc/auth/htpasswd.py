"""Lines of a file that ``htpasswd`` writes: a name, a colon, the hash of a password. Pure.

https://httpd.apache.org/docs/2.4/misc/password_encryptions.html has the formats. Only those that resist guessing are
accepted, and apr1 for the files that exist; the cost of a check is bounded, since any client may cause one.
"""

import re
from collections.abc import Iterable, Mapping

LONGEST = 1024 * 1024  # bytes of a file
MOST_ROUNDS = 14  # of bcrypt, as a power of two: about a second
MOST_MEMORY = 128 * 1024  # KiB, of argon2
MOST_PASSES = 10  # of argon2

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_ARGON2 = re.compile(r"\$argon2(?:id|i|d)\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=\d{1,3}\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")
_APR1 = re.compile(r"\$apr1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}")
_NAME = re.compile(r"[^\x00-\x20:\x7f][^\x00-\x1f:\x7f]{0,254}")
_HOW = "htpasswd -nB NAME makes a line with bcrypt"


def parse(lines: Iterable[str]) -> tuple[Mapping[str, str], list[tuple[int, str]]]:
    """Return hashes by name, and the faults, each with its index. Blank lines and comments are skipped."""
    found: dict[str, str] = {}
    faults: list[tuple[int, str]] = []
    for index, line in enumerate(lines):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, colon, hashed = text.partition(":")
        if not colon or not _NAME.fullmatch(name) or len(name.encode()) > 255:
            faults.append((index, f"is not a name, a colon and a hash: {_HOW}"))
        elif name in found:
            faults.append((index, f"{name!r} is listed twice"))
        elif problem := fault(hashed):
            faults.append((index, f"the password of {name!r} {problem}"))
        else:
            found[name] = hashed
    return found, faults


def fault(hashed: str) -> str | None:
    """Return what is wrong with a hash. It is not repeated: it may be a password in plain text."""
    if match := _BCRYPT.fullmatch(hashed):
        return None if 4 <= int(match[1]) <= MOST_ROUNDS else f"has a cost that is not from 4 to {MOST_ROUNDS}"
    if match := _ARGON2.fullmatch(hashed):
        if 8 <= int(match[1]) <= MOST_MEMORY and 1 <= int(match[2]) <= MOST_PASSES:
            return None
        return f"needs more than {MOST_MEMORY // 1024} MiB or {MOST_PASSES} passes for a check"
    if _APR1.fullmatch(hashed):
        return None
    return f"is not hashed by bcrypt, argon2 or apr1: {_HOW}"
