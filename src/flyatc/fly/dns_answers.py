"""What the platform tells of users and machines, and the answers of its private DNS, read
(https://fly.io/docs/networking/private-networking/). Pure.

The names of people's users and machines are checked before they become a part of a name: see ``Names``.

Why a question to the DNS has no answer. What is surely absent, and what is not known, are different things.

The one question which is asked for each user, and its ordinary answer, as octets (RFC 1035 §4; RFC 3596). Pure.

dnspython takes a millisecond of CPU for it, which a storm of users whom nobody knows turns into a machine that does
nothing else. Whatever is not quite ordinary is left to dnspython: see ``fly.dns``.
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
    """A machine of the user; of the DNS a started one. ``at``: when that was said, in seconds of the loop; ``stale``:
    whoever said it does not answer any more."""

    machine: str
    why: str
    at: float
    stale: bool = False
    launched: bool = True  # False: made, and never started, which Fly Proxy does not do


@dataclass(frozen=True, slots=True)
class Absent:
    """Surely none of his machines is started: he may have one that sleeps, or none. Of the Machines API: he has none;
    ``stale``: some time ago."""

    why: str
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    why: str


LookupResult = Found | Absent | Unknown


def pointer(name: str, app: str) -> str | None:
    """The id in a PTR of one of the app's machines, ``3d8dd15c1ed778.vm.shop.internal.``"""
    match = _POINTER.fullmatch(name.lower())
    return match[1] if match is not None and match[2] == app else None


def instances(texts: Iterable[str], app: str) -> dict[IPv6Address, str]:
    """The app's started machines by address, of ``_instances.internal``; the separator between them is not
    documented, and need not be."""
    return {address: identity for identity, of, address in _instances(texts) if of == app}


def _instances(texts: Iterable[str]) -> Iterator[tuple[str, str, IPv6Address]]:
    for match in _INSTANCE.finditer("\n".join(texts)):
        address = ip(match[3])
        if address is not None:
            yield match[1], match[2], address


def deployed(texts: Iterable[str]) -> frozenset[str]:
    """The ids in ``all.vms.<app>.internal``, ``3d8dd15c1ed778 iad,148e21dad76789 bos``: in whatever state."""
    return frozenset(one for text in texts for one in _DEPLOYED.findall(text))


def ip(text: str) -> IPv6Address | None:
    try:
        return IPv6Address(text)
    except AddressValueError:
        return None


def one_of(machines: Iterable[str], me: str) -> str:
    """Of several machines of one user: this one, else that with the lowest id, so that all choose the same. Whoever
    owns him is told by the record, when he comes to another."""
    found = sorted(one for one in machines if MACHINE.fullmatch(one))
    return me if me in found else found[0]


class NoRecord(FlyatcError):
    """There is surely no such record."""


class NoSuchName(NoRecord):
    """NXDOMAIN."""


class NoRecords(NoRecord):
    """The name exists; a record of this kind does not."""


class Unanswered(FlyatcError):
    """Not known now."""


class TimedOut(Unanswered):
    """No server has answered in time."""


class ServerFailed(Unanswered):
    """SERVFAIL, REFUSED, an answer that cannot be read, or no server to ask."""


_HEAD = struct.Struct("!6H")
_WISHES = b"\x01\0\0\x01\0\0\0\0\0\0"  # recursion; one question
_KIND, _CUT, _CODE = 0x7800, 0x0200, 0x000F  # of the flags: what was asked for, TC, RCODE
_NO_SUCH_NAME = 3
_AAAA_IN = b"\x00\x1c\x00\x01"
_SAME_NAME = b"\xc0\x0c"  # a pointer to the question's name, which follows the head
_RECORD = 28  # octets: name, AAAA IN, TTL, length, address


def question(identity: bytes, name: str) -> bytes | None:
    """For the AAAA of ``name``. ``identity``: two octets. None: that cannot be asked for in this way."""
    labels = name.encode().split(b".")
    if not name.isascii() or not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        return None
    text = b"".join([bytes((len(label),)) + label for label in labels])
    return identity + _WISHES + text + b"\0" + _AAAA_IN


def is_response(data: bytes, asked: bytes) -> bool:
    """Whether it answers this question, or refuses to without repeating it, as some do. Anything else was sent by
    somebody else, or for an earlier one."""
    if len(data) < _HEAD.size or data[:2] != asked[:2] or data[2] < 0x80:
        return False
    refuses = data[3] & _CODE != 0 and data[4:6] == b"\0\0"
    return refuses or data[12 : len(asked)].lower() == asked[12:].lower()  # no label is so long as a capital is high


@dataclass(frozen=True, slots=True)
class AddressResponse:
    """``data``: for which ``is_answer`` holds."""

    name: str
    asked: bytes
    data: bytes

    def addresses(self) -> list[str] | None:
        """None: somebody who knows more of DNS should look at it. Raises NoSuchName, NoRecords."""
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
