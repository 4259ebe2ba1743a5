"""Upload what a folder has and the store has not, a bounded number of files at once.

The content that is uploaded is what was hashed: a small file is read into memory, a larger one copied beside, since an
app may write to it meanwhile. A file that changes while it is read keeps its last saved content in this save, or is
left out; the next save tries again.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flyatc.databases.app_files import index, scan
from flyatc.databases.app_files.blobs import Blobs
from flyatc.databases.app_files.index import Index, Known
from flyatc.databases.app_files.scan import Changed, Scan, Stat
from flyatc.databases.workers import Workers
from flyatc.kit import tasks
from flyatc.objects.store import SMALL

AT_ONCE = 6  # files


@dataclass
class Upload:
    """One save. ``number``: its number. ``before``: the index so far. ``stored``: number of the save with each content
    that the store surely has, by hash. ``present``: contents that an earlier attempt has put there, with their sizes.
    ``place``: a temporary folder. ``allowed`` raises SaveFailed once the lease has ended."""

    root: Path
    found: Scan
    before: Index
    stored: Mapping[str, str]
    number: str
    present: Mapping[str, int]
    blobs: Blobs
    place: Path
    tools: Workers
    allowed: Callable[[], None]
    links: Mapping[str, Path]  # second names of files that were new before the databases were copied
    files: dict[str, Known] = field(default_factory=dict)  # result
    deferred: list[str] = field(default_factory=list)  # result: files that changed while they were read
    removed: dict[str, Known] = field(default_factory=dict)  # result: of ``links``, and not in the folder any more
    size: int = 0  # result: uploaded
    _new: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    _names: "itertools.count[int]" = field(default_factory=itertools.count)

    async def run(self) -> None:
        """Raises the store's errors, OSError."""
        work = await self.tools.quick.run(self._split)
        work += sorted(self.links.keys() - self.found.files.keys())
        turns = iter(work)

        async def take_turns() -> None:
            for path in turns:
                seen = self.found.files.get(path)
                if (seen is None or not await self._one(path, seen)) and not await self._from_link(path):
                    self._defer(path)

        await tasks.every((take_turns() for _ in range(min(AT_ONCE, len(work)))), "save files")

    def _split(self) -> list[str]:
        """Take over the files that the store has as they are; return the others."""
        work = []
        for path, seen in self.found.files.items():
            known = self.before.files.get(path)
            if known is not None and index.is_known(known, seen) and known.sha256 in self.stored:
                self.files[path] = Known(seen.stamp, known.sha256, self.stored[known.sha256], seen.mode)
            else:
                work.append(path)
        return sorted(work)

    async def _one(self, path: str, seen: Stat) -> bool:
        """Save a file as it was seen; return whether it still was."""
        sha256 = await self._send(self.root, path, seen)
        if sha256 is None:
            return False
        self.files[path] = index.known(seen, sha256, self.stored.get(sha256, self.number))
        return True

    async def _from_link(self, path: str) -> bool:
        """Save a file by its second name: it was removed or replaced since. It goes with the next save."""
        target = self.links.get(path)
        if target is None:
            return False
        seen = await self.tools.quick.run(partial(scan.look, target.parent, target.name))
        sha256 = await self._send(target.parent, target.name, seen) if seen is not None else None
        if seen is None or sha256 is None:
            return False
        known = Known(seen.stamp, sha256, self.stored.get(sha256, self.number), seen.mode, sure=False)
        if path in self.found.files:
            self.files[path] = known
        else:
            self.removed[path] = known
        return True

    async def _send(self, root: Path, path: str, seen: Stat) -> str | None:
        """Read a file and upload it; return its sha256. None: it is not as it was seen."""
        copy = self.place / str(next(self._names))
        try:
            if seen.size <= SMALL:
                sha256, content = await self.tools.heavy.run(partial(self._into_memory, root, path, seen))
                await self._store(sha256, content, len(content))
            else:
                sha256 = await self.tools.heavy.run(partial(self._into_copy, root, path, seen, copy))
                await self._store(sha256, copy, seen.size)
        except Changed:
            return None
        finally:
            if seen.size > SMALL:
                await self.tools.quick.run(partial(copy.unlink, missing_ok=True))
        return sha256

    def _defer(self, path: str) -> None:
        self.deferred.append(path)
        known = self.before.files.get(path)
        if known is not None and known.sha256 in self.stored:
            self.files[path] = Known(known.stamp, known.sha256, self.stored[known.sha256], known.mode, sure=False)

    def _into_memory(self, root: Path, path: str, seen: Stat) -> tuple[str, bytes]:
        parts: list[bytes] = []
        return scan.read(root, path, seen, parts.append), b"".join(parts)

    def _into_copy(self, root: Path, path: str, seen: Stat, copy: Path) -> str:
        with copy.open("xb") as file:
            return scan.read(root, path, seen, file.write)

    async def _store(self, sha256: str, content: bytes | Path, size: int) -> None:
        """Put it into the store once, although several files have it."""
        if sha256 in self.stored or self.present.get(sha256) == size:
            return None
        if sha256 in self._new:
            return await tasks.joined(self._new[sha256])
        self._new[sha256] = done = asyncio.get_running_loop().create_future()
        try:
            self.allowed()
            await self.blobs.put(f"{self.number}/{sha256}", content)
            self.size += size
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)
            done.exception()  # the others may have ended
            raise
        return None
