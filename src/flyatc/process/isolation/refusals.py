"""Notice in an app's output that its confinement is in its way, and say what to set. Pure."""

import re

from flyatc.config.schema import Tenant

_REFUSED = re.compile(
    r"permission denied|\bEACCES\b|\bEPERM\b|\bEROFS\b|read-only file system|readonly database|not permitted"
    r"|unable to open database file",
    re.IGNORECASE,
)


def shows_refusal(line: str) -> bool:
    """Return whether a line of output may be about a file or an action that the app was denied."""
    return _REFUSED.search(line) is not None


def advice(tenant: Tenant, isolation: str) -> str:
    """Return what the app may write, and what to do if it needs more. ``isolation``: see ``rules.describe``."""
    writable = ", ".join(tenant.app.writable) or "nothing else"
    return (
        f"the app is separated from others ({isolation}): it may write {{data}}, $TMPDIR and, of its directory, "
        f"app.writable ({writable}). If it needs more, name the folders there, or set app.isolation: docs/isolation.md"
    )
