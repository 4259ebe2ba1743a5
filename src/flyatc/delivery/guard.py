"""Against BREACH (breachattack.com): the length of a compressed page betrays a secret in it to whoever can put guesses
beside the secret and see lengths. Two guards: padding, and no compression where somebody is logged in. Pure.
"""

import hashlib
import re

from flyatc.delivery.fields import Fields

SAMPLE = 65536  # octets of a body on which its padding depends


def _member(names: bytes) -> re.Pattern[bytes]:
    """Finds a member of a list, with or without a value (a search in C: lists may have thousands of members)."""
    return re.compile(rb"(?:^|,)[ \t]*(?:%b)[ \t]*(?:[,=]|$)" % names, re.IGNORECASE)


_PRIVATE, _COOKIE, _NO_TRANSFORM = _member(b"private|no-store"), _member(b"cookie"), _member(b"no-transform")
_LOGGED_IN = (b"cookie", b"authorization", b"x-csrf-token")


def padding(checksum: int, most: int, key: bytes) -> int:
    """How many octets to add: 1..``most``, or 0 where ``most`` is.

    The same for the same body (``checksum``: CRC-32 of its sample), so that asking again and taking the mean tells
    nothing; and keyed, so that it cannot be reckoned for a guessed body and subtracted."""
    if most <= 0:
        return 0
    digest = hashlib.blake2b(checksum.to_bytes(4, "big"), key=key, digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % most


def filler(octets: int) -> bytes:
    return (b"Padding-" * (octets // 8 + 1))[:octets]


def asked_with_secrets(request: Fields) -> bool:
    return any(name in request for name in _LOGGED_IN)


def answered_with_secrets(answer: Fields) -> bool:
    """Whether the answer is meant for one visitor only."""
    return (
        b"set-cookie" in answer
        or _PRIVATE.search(answer.get(b"cache-control", b"")) is not None
        or _COOKIE.search(answer.get(b"vary", b"")) is not None
    )


def forbids_transformation(fields: Fields) -> bool:
    return _NO_TRANSFORM.search(fields.get(b"cache-control", b"")) is not None
