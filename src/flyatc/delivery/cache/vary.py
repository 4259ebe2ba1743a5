"""Selection by Vary (RFC 9111 §4.1): the request fields that a response depends on, and their values. Pure."""

import re
from collections.abc import Mapping

LONGEST = 1024  # octets; a longer Vary counts as "*"
_LONGEST_VALUE = 4096  # octets; a longer header is compared without normalization
Names = tuple[bytes, ...]
Values = tuple[bytes | None, ...]

_LANGUAGE = re.compile(rb"(\*|[a-z0-9-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")


def names(fields: Mapping[bytes, bytes]) -> Names | None:
    """The request fields that the response depends on, in lower case and sorted; None for ``Vary: *``."""
    value = fields.get(b"vary")
    if not value:
        return ()
    if len(value) > LONGEST:
        return None
    found = {name.strip(b" \t").lower() for name in value.split(b",")} - {b""}
    return None if b"*" in found else tuple(sorted(found))


def values(wanted: Names, request: Mapping[bytes, bytes], *, rfc: bool) -> Values:
    """The normalized values of the wanted fields: equal meaning, equal value. None for a missing field.

    ``rfc``: normalize Accept-Language too."""
    return tuple(None if (value := request.get(name)) is None else _normal(name, value, rfc) for name in wanted)


def _normal(name: bytes, value: bytes, rfc: bool) -> bytes:
    """Drop whitespace around commas; in Accept-Encoding, also case and order (RFC 9110 §12.5.3)."""
    if len(value) > _LONGEST_VALUE:
        return value
    if name == b"accept-encoding":
        return b",".join(sorted(_members(value.lower())))
    if rfc and name == b"accept-language":
        return _languages(value)
    if b'"' in value:
        return value  # a quoted comma is not a separator
    return b",".join(member.strip(b" \t") for member in value.split(b","))


def _members(value: bytes) -> set[bytes]:
    return {member.strip(b" \t") for member in value.split(b",")} - {b""}


def _languages(value: bytes) -> bytes:
    """Drop case and order, and write the weights as thousandths: only they rank (RFC 9110 §12.5.4). A malformed value
    is kept: the app may read it in a way of its own."""
    matches = [_LANGUAGE.fullmatch(member) for member in _members(value.lower())]
    if None in matches:
        return value
    found = {b"%b;%b" % (match[1], _thousandths(match[2])) for match in matches if match is not None}
    return b",".join(sorted(found))


def _thousandths(weight: bytes | None) -> bytes:
    return b"1000" if weight is None or weight[:1] == b"1" else weight[2:].ljust(3, b"0")
