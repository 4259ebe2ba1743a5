"""Records of ``.internal`` names, computed from all machines. Pure.

https://fly.io/docs/networking/private-networking/. That page does not mention PTR; existing apps use it, so it is
included and can be switched off. Nor does it say whether stopped machines give an empty response or NXDOMAIN: here a
name of a stopped machine has no records, and a name of no machine is NXDOMAIN.
"""

import ipaddress
import re
from collections.abc import Sequence

from msgspec import Struct

SUFFIX = "internal"
_META = re.compile(r"(?P<value>[^.]+)\.(?P<key>[^.]+)\.kv\._metadata\.(?P<app>[^.]+)")
_VM = re.compile(r"(?P<id>[^.]+)\.vm\.(?P<app>[^.]+)")
_TXT = re.compile(r"(?P<all>all\.)?(?P<what>vms|regions)\.(?P<app>[^.]+)")
_INSTANCES = re.compile(r"(?P<all>all\.)?_instances")
_NEAREST = re.compile(r"top(?P<count>[0-9]{1,3})\.nearest\.of\.(?P<app>[^.]+)")
_REGION = re.compile(r"(?P<region>global|[a-z]{3})\.(?P<app>[^.]+)")
_REVERSE = re.compile(r"(?P<nibbles>(?:[0-9a-f]\.){32})ip6\.arpa")


class KnownMachine(Struct, frozen=True):
    """A machine as the DNS sees it."""

    id: str
    app: str
    region: str
    address: str
    started: bool
    metadata: dict[str, str]


class Found(Struct, frozen=True):
    """Result of a lookup. ``exists``: else NXDOMAIN. ``kind``: AAAA, TXT or PTR, of ``records``."""

    exists: bool
    kind: str = ""
    records: tuple[str, ...] = ()


NOTHING = Found(False)


def look_up(name: str, machines: Sequence[KnownMachine], region: str, *, ptr: bool) -> Found:
    """Return the records of a name, for any query type. ``name``: lower case, without the final dot; ``region``: of the
    querying machine."""
    if (match := _REVERSE.fullmatch(name)) is not None:
        return _reverse(match["nibbles"], machines) if ptr else NOTHING
    inner, dot, last = name.rpartition(".")
    if last != SUFFIX or not dot:
        return NOTHING
    found = _texts(inner, machines)
    return found if found is not None else _addresses(inner, machines, region)


def _texts(name: str, machines: Sequence[KnownMachine]) -> Found | None:
    if name == "_apps":
        return Found(True, "TXT", (",".join(sorted({m.app for m in machines})),))
    if (match := _INSTANCES.fullmatch(name)) is not None:
        listed = [f"instance={m.id},app={m.app},ip={m.address},region={m.region}"
                  for m in machines if m.started or match["all"]]  # fmt: skip
        return Found(True, "TXT", (";".join(listed),) if listed else ())
    if (match := _TXT.fullmatch(name)) is None:
        return None
    of_app = [m for m in machines if m.app == match["app"]]
    shown = [m for m in of_app if m.started or match["all"]]
    listed = [f"{m.id} {m.region}" for m in shown] if match["what"] == "vms" else sorted({m.region for m in shown})
    return Found(bool(of_app), "TXT", (",".join(listed),) if listed else ())


def _addresses(name: str, machines: Sequence[KnownMachine], region: str) -> Found:
    """Return the addresses of started machines for any kind of name."""
    most = None
    if (match := _META.fullmatch(name)) is not None:
        key, value = match["key"], match["value"]
        having = [m for m in machines if m.app == match["app"] and m.metadata.get(key, "").lower() == value]
    elif (match := _VM.fullmatch(name)) is not None:
        having = [m for m in machines if m.app == match["app"] and m.id == match["id"]]
    elif (match := _NEAREST.fullmatch(name)) is not None:
        most = int(match["count"])
        having = sorted((m for m in machines if m.app == match["app"]), key=lambda m: m.region != region)
    elif (match := _REGION.fullmatch(name)) is not None:
        having = [m for m in machines if m.app == match["app"] and match["region"] in ("global", m.region)]
    else:
        having = [m for m in machines if m.app == name]
    return Found(bool(having), "AAAA", tuple(m.address for m in having if m.started)[:most])


def _reverse(nibbles: str, machines: Sequence[KnownMachine]) -> Found:
    address = ipaddress.IPv6Address(int(nibbles.replace(".", "")[::-1], 16))
    for one in machines:
        if one.started and ipaddress.IPv6Address(one.address) == address:
            return Found(True, "PTR", (f"{one.id}.vm.{one.app}.{SUFFIX}.",))
    return NOTHING
