"""What the platform tells of users and machines, and the answers of its private DNS, read
(https://fly.io/docs/networking/private-networking/). Pure.

The names of people's users and machines are checked before they become a part of a name: see ``Names``."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from flyatc.config.platform import MACHINE

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


Told = Found | Absent | Unknown


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
