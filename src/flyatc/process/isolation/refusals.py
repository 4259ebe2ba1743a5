"""Notice in an app's output that its confinement is in its way, and say what to set. Pure."""

import re
from collections.abc import Sequence

from flyatc.config.schema import Tenant

_REFUSED = re.compile(
    r"permission denied|\bEACCES\b|\bEPERM\b|\bEROFS\b|read-only file system|readonly database|not permitted"
    r"|unable to open database file",
    re.IGNORECASE,
)


def shows_refusal(line: str) -> bool:
    """Return whether a line of output may be about a file or an action that the app was denied."""
    return _REFUSED.search(line) is not None


def advice(tenant: Tenant, isolation: str, closed: Sequence[str] = ()) -> str:
    """Return what the app may write, and what to do if it needs more. ``isolation``: see ``rules.describe``;
    ``closed``: shared folders, such as /tmp, in which it can create nothing, since private paths lie in them."""
    writable = ", ".join(tenant.app.writable) or "nothing else"
    shared = (
        f", but nothing new in {', '.join(closed)}, where the data, the store or tenants.yaml lie" if closed else ""
    )
    return (
        f"the app is separated from others ({isolation}): it may write {{data}}, $TMPDIR and, of its directory, "
        f"app.writable ({writable}){shared}. If it needs more, name the folders there, or set app.isolation: "
        "docs/isolation.md"
    )
