"""Make the store for a configuration."""

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
    """A store with the methods for its owner, which opens and closes it."""

    async def open(self) -> None:
        """Open the store; to be called first. Raises StoreRefused if the settings are wrong, StoreUnavailable."""

    async def check(self) -> None:
        """Test that conditional writes work. Raises StoreRefused if they do not, StoreUnavailable."""

    async def hang_up(self) -> None:
        """Close unused connections: after a sleep they may be dead without notice."""

    def close(self) -> None:
        """Close the store after running calls have ended."""


def store_of(
    storage: Storage, environ: Mapping[str, str], *, hurried: float | None = None, log: Log | None = None
) -> OwnedStore | None:
    """Return the store, None if ``storage.mode`` is none. ``storage`` is resolved: the environment has a bucket's
    settings.

    ``hurried``: seconds for one call on S3, without retries: see S3Store. ``log``: for calls that are given up."""
    if storage.mode == "none":
        return None
    if storage.url.startswith(sections.SCHEME):
        return S3Store(sections.bucket_of(storage.url, environ), environ, hurried=hurried, log=log)
    return FolderStore(Path(storage.url.removeprefix("file:")), hurried=hurried is not None, log=log)
