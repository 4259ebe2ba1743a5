"""Which stored answer of a resource is meant for a request (RFC 9111 §4.1). Pure."""

from collections.abc import Mapping

LONGEST = 1024  # octets of a Vary that is read; a longer one counts as "*"
_LONGEST_VALUE = 4096  # octets of a header that is normalized; a longer one counts as it is written
Names = tuple[bytes, ...]
Values = tuple[bytes | None, ...]


def names(fields: Mapping[bytes, bytes]) -> Names | None:
    """The request's fields, in lower case and sorted, on which the answer depends; None: on more than those (``*``)."""
    value = fields.get(b"vary")
    if not value:
        return ()
    if len(value) > LONGEST:
        return None
    found = {name.strip(b" \t").lower() for name in value.split(b",")} - {b""}
    return None if b"*" in found else tuple(sorted(found))


def values(wanted: Names, request: Mapping[bytes, bytes]) -> Values:
    """What the request says of them, so written that the same meaning is the same value. None: it says nothing."""
    return tuple(None if (value := request.get(name)) is None else _normal(name, value) for name in wanted)


def _normal(name: bytes, value: bytes) -> bytes:
    """Whitespace around commas means nothing; in Accept-Encoding, neither do case and order (RFC 9110 §12.5.3)."""
    if len(value) > _LONGEST_VALUE:
        return value
    if name == b"accept-encoding":
        members = sorted({member.strip(b" \t").lower() for member in value.split(b",")} - {b""})
        return b",".join(members)
    if b'"' in value:
        return value  # a comma between quotes is no separator
    return b",".join(member.strip(b" \t") for member in value.split(b","))
