"""Failed logins by client address, and how long a client must wait. Pure: the caller passes the time."""

import ipaddress
from collections import OrderedDict

FREE = 10.0  # failures at once
EACH = 6.0  # s; then one more failure each
MOST = 10_000  # addresses remembered; the one that failed longest ago is forgotten first


class FailedLogins:
    """``each`` seconds for each failure beyond ``free``. Times are in seconds of any clock that never goes back."""

    def __init__(self, free: float = FREE, each: float = EACH) -> None:
        self._free, self._each = free, each
        self._until: OrderedDict[str, float] = OrderedDict()  # when all failures of an address are forgotten

    def wait(self, address: str, now: float) -> float:
        """Return the seconds until the next attempt of this client is permitted; 0: it is now."""
        return max(0.0, self._until.get(network(address), now) - now - (self._free - 1) * self._each)

    def failed(self, address: str, now: float) -> None:
        key = network(address)
        self._until[key] = max(now, self._until.pop(key, now)) + self._each
        if len(self._until) > MOST:
            self._until.popitem(last=False)


def network(address: str) -> str:
    """Return the network that counts as one client: an IPv4 address, or the 64 bits of an IPv6 network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # of a Unix socket, or none
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
    return str(found)
