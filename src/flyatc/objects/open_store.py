"""Which store the configuration means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from flyatc.config import sections
from flyatc.config.schema import Storage
from flyatc.objects.folder import FolderStore
from flyatc.objects.s3 import S3Store
from flyatc.objects.store import ObjectStore
from flyatc.observe.log import Log


class OwnedStore(ObjectStore, Protocol):
    """A store for the one who opens and closes it."""

    async def open(self) -> None:
        """To be called first. Raises StoreRefused where the settings are wrong, StoreUnavailable."""

    async def check(self) -> None:
        """Whether it keeps conditions. Raises StoreRefused where it does not, StoreUnavailable."""

    async def hang_up(self) -> None:
        """Closes the connections which nobody uses: after a sleep they are dead without our knowing."""

    def close(self) -> None:
        """Waits for the calls which are running."""


def store_of(
    storage: Storage, environ: Mapping[str, str], *, hurried: float | None = None, log: Log | None = None
) -> OwnedStore | None:
    """None where nothing is stored. ``storage`` is resolved, so the environment has what a bucket needs.

    ``hurried``: the seconds which one call may take on S3, without retries: see S3Store. ``log``: for calls that had to
    be given up."""
    if storage.mode == "none":
        return None
    if storage.url.startswith(sections.SCHEME):
        return S3Store(sections.bucket_of(storage.url, environ), environ, hurried=hurried, log=log)
    return FolderStore(Path(storage.url.removeprefix("file:")), hurried=hurried is not None, log=log)
