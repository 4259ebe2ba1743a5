"""The content of files in the store, below ``files/<user>/<tenant>/<folder>/<number>/<sha256>``.

``number`` is that of the save which put it there, so a key is never used again: a deletion that arrives late, even one
of an earlier holder, cannot hit what a later save relies on. Outside of ``users/``, whose listing stays short.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import msgspec
import zstandard

from flyatc.config.schema import Tenant
from flyatc.config.schema_sections import segment_of
from flyatc.databases.app_files import manifest
from flyatc.databases.app_files.manifest import Hostile, Manifest
from flyatc.databases.local_files import LEVEL, WINDOW
from flyatc.kit import timing
from flyatc.kit.types import silent
from flyatc.objects.store import SMALL, ConditionFailed, ObjectStore, StoreUnavailable

ROOT = "files/"
TRIES = 3


class Blobs:
    """Methods also raise the store's errors."""

    def __init__(self, store: ObjectStore, tenant: Tenant, folder: str) -> None:
        self._store = store
        self._prefix = f"{ROOT}{tenant.user}/{tenant.key}/{segment_of(folder)}/"

    async def there(self, number: str) -> dict[str, int]:
        """Return the size of each content that the save ``number`` has put there so far, by hash."""
        cut = len(self._prefix) + len(number) + 1
        return {one.key[cut:]: one.size for one in await self._store.list(f"{self._prefix}{number}/")}

    async def all(self) -> list[str]:
        """Return the keys of all of them, as in ``File.blob``."""
        return [one.key[len(self._prefix) :] for one in await self._store.list(self._prefix)]

    async def put(self, blob: str, content: bytes | Path) -> None:
        """Put it there, unless it is there already. A file of any size, or up to SMALL bytes."""
        for number in range(1, TRIES + 1):
            try:
                return await self._put(f"{self._prefix}{blob}", content)
            except ConditionFailed:
                return None  # of an earlier attempt of the same save
            except StoreUnavailable:
                if number == TRIES:
                    raise
            await asyncio.sleep(timing.delay(number, first=0.2, most=1.0))
        return None

    async def _put(self, key: str, content: bytes | Path) -> None:
        if isinstance(content, bytes) and len(content) <= SMALL:
            await self._store.put(key, content, create=True)
        elif isinstance(content, Path):
            await self._store.upload(key, content, create=True, progress=silent)
        else:
            raise ValueError(f"{len(content)} bytes are too many to be put at once")

    async def download(self, blob: str, path: Path) -> None:
        """Write it to ``path``, which must not exist. Raises Absent."""
        await self._store.download(f"{self._prefix}{blob}", path, silent)

    async def delete(self, blobs: Iterable[str]) -> None:
        for blob in blobs:
            await self._store.delete(f"{self._prefix}{blob}")


def pack(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(body)


def unpack(packed: bytes) -> tuple[Manifest, bytes]:
    """Return the manifest and its bytes. Raises Hostile."""
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 < size <= manifest.MOST_OCTETS:
            raise Hostile(f"it declares {size} bytes")
        body = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompress(packed, max_output_size=size)
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise Hostile(str(error)) from error
    return manifest.decode(body), body
