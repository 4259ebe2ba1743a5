"""Folders of files that were set aside: complete, on this machine, below ``.flyatc/orphans/TIME/``."""

from functools import partial

from flyatc.databases import local_files
from flyatc.databases.files.folder import SavedFolder


async def set_aside(folder: SavedFolder, reason: str) -> None:
    """Move the local folder away. Raises OSError."""
    aside = await folder.tools.quick.run(partial(local_files.set_aside, folder.path, folder.folder))
    if aside is not None:
        folder.log_event("warning", "the local copy was set aside", path=str(aside), reason=reason)
