"""Header fields out of the raw lines of a head (``wire.head.Head.kept``). Pure."""

from collections.abc import Iterable

Fields = dict[bytes, bytes]


def read(kept: Iterable[bytes]) -> Fields:
    """Lower-case name → value; several lines of a name are one value, joined by ", " (RFC 9110 §5.3).

    That breaks Set-Cookie, which is here only to be known of."""
    found: Fields = {}
    several: dict[bytes, list[bytes]] = {}  # joined once, at the end: linear, however many lines a name has
    for line in b"".join(kept).split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in found:
            several.setdefault(name, [found[name]]).append(value)
        else:
            found[name] = value
    for name, values in several.items():
        found[name] = b", ".join(values)
    return found


def lines(kept: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """(lower-case name, the whole line begun by CR LF), in their order."""
    return [(line.partition(b":")[0].lower(), b"\r\n" + line) for line in b"".join(kept).split(b"\r\n")[1:]]
