"""Against BREACH (breachattack.com): the length of a compressed page betrays a secret in it to whoever can put guesses
beside the secret and see lengths. Two guards: padding, and no compression where somebody is logged in. Pure.
"""

import hashlib

from flyatc.delivery.fields import Fields

SAMPLE = 65536  # octets of a body on which its padding depends

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
        or not {b"private", b"no-store"}.isdisjoint(members(answer, b"cache-control"))
        or b"cookie" in members(answer, b"vary")
    )


def members(fields: Fields, name: bytes) -> set[bytes]:
    """The lower-case members of a list, each without its value."""
    return {member.partition(b"=")[0].strip(b" \t").lower() for member in fields.get(name, b"").split(b",")}
