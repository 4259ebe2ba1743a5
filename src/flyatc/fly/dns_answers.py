"""Lookup results, DNS errors, parsers of Fly's private DNS records, and a codec for AAAA queries. Pure.

The records are described in https://fly.io/docs/networking/private-networking/. Errors keep surely absent and unknown
apart. User and machine names are checked before they become part of a DNS name: see ``UserLookup``.

The codec (RFC 1035 §4, RFC 3596) handles ordinary responses; all others are left to dnspython, see ``fly.dns``.
dnspython needs a millisecond of CPU for a query, so a flood of unknown users would occupy the machine.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from flyatc.config.schema_sections import MACHINE
from flyatc.kit.errors import FlyatcError

_POINTER = re.compile(r"([0-9a-z]{8,20})\.vm\.([a-z0-9-]{1,63})\.internal\.?")
_INSTANCE = re.compile(r"instance=([0-9a-z]{8,20}),app=([a-z0-9-]{1,63}),ip=([0-9A-Fa-f:]{2,45}),region=[a-z0-9]+")
_DEPLOYED = re.compile(r"(?:^|,)\s*([0-9a-z]{8,20}) [a-z0-9]+(?=,|$)")


@dataclass(frozen=True, slots=True)
class Found:
    """A machine of the user; from the DNS, a started one. ``at``: time of the result, in seconds of the loop;
    ``stale``: it is an old one, since its source does not respond."""

    machine: str
    why: str
    at: float
    stale: bool = False
    launched: bool = True  # False: created but never started; Fly Proxy does not start such a machine


@dataclass(frozen=True, slots=True)
class Absent:
    """Surely no result. From the DNS: the user has no started machine, but maybe a stopped one. From the Machines API:
    none at all; ``stale``: according to an old list."""

    why: str
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """The lookup failed."""

    why: str


LookupResult = Found | Absent | Unknown


def pointer(name: str, app: str) -> str | None:
    """Return the machine id in a PTR of the app's machines, ``3d8dd15c1ed778.vm.shop.internal.``; None if of
    another."""
    match = _POINTER.fullmatch(name.lower())
    return match[1] if match is not None and match[2] == app else None


def instances(texts: Iterable[str], app: str) -> dict[IPv6Address, str]:
    """Parse ``_instances.internal``: the app's started machines by address. The separator is undocumented, and not
    relied on."""
    return {address: identity for identity, of, address in _instances(texts) if of == app}


def _instances(texts: Iterable[str]) -> Iterator[tuple[str, str, IPv6Address]]:
    for match in _INSTANCE.finditer("\n".join(texts)):
        address = ip(match[3])
        if address is not None:
            yield match[1], match[2], address


def deployed(texts: Iterable[str]) -> frozenset[str]:
    """Parse ``all.vms.<app>.internal``, ``3d8dd15c1ed778 iad,148e21dad76789 bos``: ids of machines in any state."""
    return frozenset(one for text in texts for one in _DEPLOYED.findall(text))


def ip(text: str) -> IPv6Address | None:
    try:
        return IPv6Address(text)
    except AddressValueError:
        return None


def one_of(machines: Iterable[str], me: str) -> str:
    """Choose among several machines of a user: this one, else the lowest id, so that all machines choose the same. If
    another machine is the owner, the owner's record corrects the choice later."""
    found = sorted(one for one in machines if MACHINE.fullmatch(one))
    return me if me in found else found[0]


class NoRecord(FlyatcError):
    """The record surely does not exist."""


class NoSuchName(NoRecord):
    """NXDOMAIN."""


class NoRecords(NoRecord):
    """The name exists; a record of this kind does not."""


class Unanswered(FlyatcError):
    """The result is unknown now."""


class TimedOut(Unanswered):
    """No server responded in time."""


class ServerFailed(Unanswered):
    """SERVFAIL, REFUSED, an unreadable response, or no server configured."""


_HEAD = struct.Struct("!6H")
_FLAGS = b"\x01\0\0\x01\0\0\0\0\0\0"  # recursion; one question
_KIND, _CUT, _CODE = 0x7800, 0x0200, 0x000F  # bits of the flags: OPCODE, TC, RCODE
_NO_SUCH_NAME = 3
_AAAA_IN = b"\x00\x1c\x00\x01"
_SAME_NAME = b"\xc0\x0c"  # compression pointer to the question's name after the header
_RECORD = 28  # bytes: name, AAAA IN, TTL, length, address


def question(identity: bytes, name: str) -> bytes | None:
    """Encode a query for the AAAA of ``name``. ``identity``: two bytes. None: the name cannot be encoded here."""
    labels = name.encode().split(b".")
    if not name.isascii() or not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        return None
    text = b"".join([bytes((len(label),)) + label for label in labels])
    return identity + _FLAGS + text + b"\0" + _AAAA_IN


def is_response(data: bytes, asked: bytes) -> bool:
    """Return whether ``data`` responds to this query. An error may lack the question, as some servers send it. Any
    other packet is spoofed, or late for an earlier query."""
    if len(data) < _HEAD.size or data[:2] != asked[:2] or data[2] < 0x80:
        return False
    refuses = data[3] & _CODE != 0 and data[4:6] == b"\0\0"
    # lower() leaves label lengths as they are: they are below 64, capital letters above
    return refuses or data[12 : len(asked)].lower() == asked[12:].lower()


@dataclass(frozen=True, slots=True)
class AddressResponse:
    """A response to an AAAA query. ``data``: must satisfy ``is_response``."""

    name: str
    asked: bytes
    data: bytes

    def addresses(self) -> list[str] | None:
        """Return the addresses. None: dnspython is needed. Raises NoSuchName, NoRecords."""
        _, flags, questions, count, _, _ = _HEAD.unpack_from(self.data)
        code = flags & _CODE
        if flags & (_KIND | _CUT) or questions != 1 or code not in (0, _NO_SUCH_NAME) or (code and count):
            return None
        if code:
            raise NoSuchName(f"{self.name} does not exist (NXDOMAIN)")
        if not count:
            raise NoRecords(f"{self.name} has no AAAA")
        return self._records(count)

    def _records(self, count: int) -> list[str] | None:
        found, at = [], len(self.asked)
        for _ in range(count):
            record = self.data[at : at + _RECORD]
            if len(record) < _RECORD or record[:6] != _SAME_NAME + _AAAA_IN or record[10:12] != b"\0\x10":
                return None
            found.append(str(IPv6Address(record[12:])))
            at += _RECORD
        return found
