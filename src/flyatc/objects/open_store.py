"""Make the store for a configuration."""

from collections.abc import Mapping
from pathlib import Path

from flyatc.config import sections
from flyatc.config.schema import Storage
from flyatc.objects.calls import ThreadedStore
from flyatc.objects.folder import FolderStore
from flyatc.objects.s3 import S3Store
from flyatc.observe.log import Log


def store_of(
    storage: Storage, environ: Mapping[str, str], *, hurried: float | None = None, log: Log | None = None
) -> ThreadedStore | None:
    """Return the store, None if ``storage.mode`` is none. ``storage`` is resolved: the environment has a bucket's
    settings.

    ``hurried``: seconds for one call on S3, without retries: see S3Store. ``log``: for calls that are given up."""
    if storage.mode == "none":
        return None
    if storage.url.startswith(sections.SCHEME):
        return S3Store(sections.bucket_of(storage.url, environ), environ, hurried=hurried, log=log)
    return FolderStore(Path(storage.url.removeprefix("file:")), hurried=hurried is not None, log=log)
