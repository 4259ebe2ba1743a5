"""Replicas which another litestream has written: looked for once, when our store has nothing of a database. Only read.

That there is nothing is believed of a listing only, never of litestream, which says the same of a damaged replica."""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from msgspec import structs

from flyatc.config import bucket
from flyatc.config.schema import Tenant
from flyatc.databases.adopting import fill
from flyatc.databases.litestream.means import Means
from flyatc.objects.opened import store_of

FILE = "file:"


async def find(tenant: Tenant, database: str, means: Means) -> str | None:
    """The replica's URL, as litestream wants it, where there is something. Raises StoreUnavailable, OSError."""
    template = means.storage.replica
    if template is None:
        return None
    place = fill(template, tenant, database)
    if place.startswith(FILE):
        there = await means.tools.quick.run(partial(_holds_files, Path(place.removeprefix(FILE))))
        return means.addresses.of_url(place) if there else None
    if place.startswith(bucket.SCHEME):
        return means.addresses.of_url(place) if await _bucket_has(place, means) else None
    key = place.strip("/")
    return means.addresses.of_key(key) if await means.store.list(f"{key}/") else None


async def _bucket_has(url: str, means: Means) -> bool:
    """It may be another bucket than ours; its credentials are the same."""
    there = bucket.bucket_of(url, means.environ)
    store = store_of(structs.replace(means.storage, url=f"{bucket.SCHEME}{there.name}"), means.environ)
    assert store is not None, "the mode is litestream"
    with contextlib.closing(store):
        await store.open()
        return bool(await store.list(there.prefix))


def _holds_files(folder: Path) -> bool:
    return any(True for _ in _files(folder))


def _files(folder: Path) -> Iterator[str]:
    for _, _, names in os.walk(folder, onerror=_unless_absent):
        yield from names


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
