"""The private network of an organization on Fly, 6PN (https://fly.io/docs/networking/private-networking/)."""

from collections.abc import Mapping
from ipaddress import IPv6Network
from pathlib import Path

import msgspec

from flyatc.config.listen import Listen
from flyatc.fly import told
from flyatc.kit.errors import FlyatcError

VARIABLE = "FLYATC_NETWORK"
OURS = IPv6Network("fdaa::/16")


def real(address: str, port: int, environ: Mapping[str, str]) -> Listen:
    """Where this address of the private network really is: as it says, but for ``flyatc sim``, which has no such
    network, and names in FLYATC_NETWORK a file of JSON, ``{"fdaa:…": "127.0.0.1:20001"}``.

    Raises FlyatcError for what is no such address: what listens there must not be seen from anywhere else."""
    found = told.ip(address)
    if found is None or found not in OURS:
        raise FlyatcError(f"{address!r} is no address of Fly's private network")
    path = environ.get(VARIABLE)
    if not path:
        return Listen(str(found), port)
    try:
        known = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, str])
        return Listen.parse(known[str(found)])
    except (OSError, msgspec.MsgspecError, KeyError, ValueError) as error:
        raise FlyatcError(f"{address} is not to be found by {VARIABLE}={path}: {error}") from error
