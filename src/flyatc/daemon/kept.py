"""The tenants which have a folder on this machine, configured or not."""

import asyncio
from pathlib import Path

from flyatc.config.schema import Config, Tenant


async def kept(config: Config, user: str = "*") -> list[Tenant]:
    """``user``: one, whose name has no pattern in it; without it, of all."""
    return await asyncio.to_thread(_kept, config, user)


def _kept(config: Config, user: str) -> list[Tenant]:
    folders = sorted(Path(config.server.data).glob(f"tenants/{user}/*"))
    return [config.tenant_kept_as(folder.parent.name, folder.name) for folder in folders]
