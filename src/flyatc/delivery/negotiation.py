"""Which coding of a body a visitor prefers (RFC 9110 §12.5.3). Pure."""

import functools
import re

from flyatc.config.delivery import Coding

LONGEST = 512  # octets of a header worth reading: browsers send about thirty
MEMO = 256  # different headers remembered

_Q = re.compile(rb"(0(?:\.[0-9]*)?|1(?:\.0*)?)")
_OTHER_NAMES = {b"x-gzip": b"gzip"}  # RFC 9110 §8.4.1.3


def negotiate(accept_encoding: bytes | None, offered: tuple[Coding, ...]) -> Coding | None:
    """The coding with the highest weight, or None: as it is. Among equals the one which ``offered`` names first, and
    any coding rather than none.

    Without the header nothing is encoded, though the RFC would permit it: who does not ask often cannot decode. What is
    too long or malformed counts as refused: the body as it is can be read by everybody."""
    if not accept_encoding or len(accept_encoding) > LONGEST:
        return None
    return _choose(accept_encoding, offered)


@functools.lru_cache(MEMO)
def _choose(accept_encoding: bytes, offered: tuple[Coding, ...]) -> Coding | None:
    weights = _weights(accept_encoding)
    named = [(weights[coding.encode()], coding) for coding in offered if coding.encode() in weights]
    unnamed = [coding for coding in offered if coding.encode() not in weights]
    if b"*" in weights and unnamed:
        # Who writes "*" promises to decode anything; what he surely can is gzip. At equal weights after the named.
        named.append((weights[b"*"], "gzip" if "gzip" in unnamed else unnamed[0]))
    best, chosen = max(named, key=lambda one: one[0], default=(0.0, None))  # of equals, the first
    as_it_is = weights.get(b"identity", 0.0)
    return chosen if best > 0 and best >= as_it_is else None


def _weights(accept_encoding: bytes) -> dict[bytes, float]:
    """Lower-case name → weight; of a name given twice the lower one."""
    weights: dict[bytes, float] = {}
    for member in accept_encoding.lower().split(b","):
        name, *parameters = (part.strip(b" \t") for part in member.split(b";"))
        if name:
            name = _OTHER_NAMES.get(name, name)
            weights[name] = min(_weight(parameters), weights.get(name, 1.0))
    return weights


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition(b"=")
        if key.rstrip(b" \t") == b"q":
            match = _Q.fullmatch(value.lstrip(b" \t"))
            return float(match[1]) if match else 0.0
    return 1.0
