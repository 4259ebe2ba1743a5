"""Bring one save of a folder: write it into a new folder beside, verified, then swap that in.

The new folder is flyatc's own until it is swapped in, and a manifest was checked before it is used, so nothing is ever
written elsewhere. A file that is here already with the same content is not fetched.
"""

import ctypes
import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flyatc.databases import local_files
from flyatc.databases.app_files import index as indexes
from flyatc.databases.app_files import scan as scanning
from flyatc.databases.app_files.blobs import Blobs
from flyatc.databases.app_files.index import Index, Known
from flyatc.databases.app_files.manifest import File, Manifest, unquote
from flyatc.databases.app_files.scan import Changed, Scan
from flyatc.databases.workers import Workers
from flyatc.kit import durable_files, tasks
from flyatc.objects.store import Absent

AT_ONCE = 6  # files
CHUNK = 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


class Damaged(Exception):
    """Content is missing in the store, or is not what was saved; the text says which."""


@dataclass(frozen=True)
class Local:
    """The folder as it is here. ``linked``: it is deleted afterwards, so files may be linked instead of copied."""

    root: Path
    found: Scan
    index: Index
    linked: bool


@dataclass
class Bring:
    """``new``: the folder to make. ``partial``: keeps what was fetched until the restore is complete, so that one which
    is cut off, as by ``app.start_timeout``, is continued by the next. ``fetched``: bytes from the store."""

    manifest: Manifest
    blobs: Blobs
    new: Path
    partial: Path
    local: Local | None
    tools: Workers
    fetched: int = 0
    reused: int = 0  # files
    _left: frozenset[str] = frozenset()  # contents that an earlier attempt has left

    @property
    def needs(self) -> int:
        """Bytes on the disk."""
        return self.manifest.size

    async def run(self) -> None:
        """Make the folder, durably. Raises Damaged, StoreUnavailable, OSError."""
        await self.tools.heavy.run(partial(make_folders, self.new, self.manifest))
        self._left = await self.tools.quick.run(partial(_names_in, self.partial))
        groups: dict[str, list[File]] = defaultdict(list)
        for file in self.manifest.files:
            groups[file.sha256].append(file)
        sources = _sources(self.local)
        turns = iter(groups.values())

        async def take_turns() -> None:
            for same in turns:
                await self._one(same, sources.get(same[0].sha256, ()))

        await tasks.every((take_turns() for _ in range(min(AT_ONCE, len(groups)))), "restore files")
        await self.tools.heavy.run(partial(_finish, self.new, self.manifest, self.partial))

    async def _one(self, same: list[File], sources: Sequence[str]) -> None:
        """Make all files of one content."""
        first, *others = same
        kept = None
        reused = bool(sources) and await self.tools.heavy.run(partial(self._reuse, sources, first))
        if not reused:
            kept = await self._fetch(first)
        await self.tools.heavy.run(partial(self._place, kept, first, others))

    async def _fetch(self, file: File) -> Path:
        """Return the place of its verified content."""
        kept = self.partial / file.sha256
        if file.sha256 not in self._left or not await self.tools.heavy.run(partial(_is, kept, file)):
            await fetch(self.blobs, file, kept, self.tools)
            self.fetched += file.size
        return kept

    def _reuse(self, sources: Sequence[str], file: File) -> bool:
        """Take a local file, if there is one that is still what the index says."""
        new = beneath(self.new, file.path)
        for source in sources:
            try:
                if self._link(source, file, new) or self._copy(source, file, new):
                    self.reused += 1
                    return True
            except (Changed, FileNotFoundError):
                pass
            new.unlink(missing_ok=True)
        return False

    def _link(self, source: str, file: File, new: Path) -> bool:
        """Only if its metadata are right: they are those of the local file as well."""
        assert self.local is not None
        seen = self.local.found.files[source]
        if not self.local.linked or (seen.mtime, seen.mode) != (file.mtime, file.mode):
            return False
        try:
            os.link(beneath(self.local.root, source), new, follow_symlinks=False)
        except PermissionError:  # fs.protected_hardlinks
            return False
        there = scanning.look(self.new, file.path)
        if there is None or there.stamp[:3] != seen.stamp[:3]:
            raise Changed(source)
        return True

    def _copy(self, source: str, file: File, new: Path) -> bool:
        assert self.local is not None
        with new.open("xb") as copy:
            digest = scanning.read(self.local.root, source, self.local.found.files[source], copy.write)
        if digest != file.sha256:
            raise Changed(source)
        return True

    def _place(self, kept: Path | None, first: File, others: list[File]) -> None:
        """Place all files of one content. ``kept``: where it is; None: the first one is in its place."""
        if kept is not None:
            os.link(kept, beneath(self.new, first.path))
        for file in others:
            shutil.copyfile(beneath(self.new, first.path), beneath(self.new, file.path), follow_symlinks=False)
        for file in (first, *others):
            path, seen = beneath(self.new, file.path), scanning.look(self.new, file.path)
            if seen is None or (seen.mtime, seen.mode) != (file.mtime, file.mode):
                path.chmod(file.mode)
                os.utime(path, ns=(file.mtime, file.mtime), follow_symlinks=False)


def _sources(local: Local | None) -> Mapping[str, list[str]]:
    """Return the local files with each content, by hash: those whose metadata has not changed."""
    found: dict[str, list[str]] = defaultdict(list)
    if local is not None:
        for path, seen in local.found.files.items():
            known = local.index.files.get(path)
            if known is not None and indexes.is_known(known, seen):
                found[known.sha256].append(path)
    return found


async def fetch(blobs: Blobs, file: File, path: Path, tools: Workers) -> None:
    """Download one file and verify it. Raises Damaged, StoreUnavailable, OSError."""
    try:
        await blobs.download(file.blob, path)
    except Absent as error:
        raise Damaged(f"the store has lost the content of {file.path!r}") from error
    size, digest = await tools.heavy.run(partial(_measure, path))
    if (size, digest) != (file.size, file.sha256):
        raise Damaged(f"the content of {file.path!r} is not what was saved (sha256 differs)")


def _measure(path: Path) -> tuple[int, str]:
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            size += len(chunk)
    return size, found.hexdigest()


def beneath(root: Path, path: str) -> Path:
    """Return the place of a checked path of a manifest."""
    return root / os.fsdecode(unquote(path))


def make_folders(new: Path, manifest: Manifest) -> None:
    new.mkdir(mode=0o700)
    for folder in sorted(one.path for one in manifest.folders):
        beneath(new, folder).mkdir(mode=0o700)


def _names_in(folder: Path) -> frozenset[str]:
    """Make the folder, and return what is in it."""
    durable_files.make_folder(folder)
    return frozenset(path.name for path in folder.iterdir())


def _is(path: Path, file: File) -> bool:
    """Return whether an earlier attempt has left this content; else remove what it has left."""
    if path.exists() and _measure(path) == (file.size, file.sha256):
        return True
    path.unlink(missing_ok=True)
    return False


def _finish(new: Path, manifest: Manifest, kept: Path) -> None:
    """Set the modes of the folders, sync all, and remove the second names of the files."""
    for folder in sorted(manifest.folders, key=lambda one: one.path, reverse=True):
        beneath(new, folder.path).chmod(folder.mode)
    new.chmod(manifest.mode)
    sync(new)
    local_files.remove(kept)


def sync(folder: Path) -> None:
    """Make everything on the file system of ``folder`` durable: one call, however many files. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
    finally:
        os.close(descriptor)


def check_parents(data: Path, path: Path) -> None:
    """Raise NotADirectoryError if something between the tenant's folder and ``path`` is a link or a file."""
    for parent in path.relative_to(data).parents:
        above = data / parent
        if above != data and (above.is_symlink() or (above.exists() and not above.is_dir())):
            raise NotADirectoryError(20, "a part of its path is a link or a file", str(above))


def put_in_place(new: Path, path: Path, own: Path, *, keep: bool) -> Path | None:
    """Move ``new`` to ``path``. Return where the old folder was moved to, if it is kept. ``own``: the tenant's
    ``.flyatc``. A crash leaves the old folder, nothing or the new one at ``path``."""
    check_parents(own.parent, path)
    aside = None
    if path.is_symlink() or path.exists():
        aside = local_files.set_aside(path, own) if keep else None
        if not keep:
            path.rename(new.with_name(f"{new.name}.old"))  # removed with the temporary folder
    durable_files.make_folder(path.parent)
    new.rename(path)
    durable_files.sync_folder(path.parent)
    return aside


def index_of(root: Path, manifest: Manifest, index: Index) -> Index:
    """Return the index of a folder that was just put in place, for a manifest that it is equal to. Use it only once a
    tick has passed and before an app runs. ``index``: the old one. Raises OSError."""
    files: dict[str, Known] = {}
    for file in manifest.files:
        seen = scanning.look(root, file.path)
        if seen is not None:
            files[file.path] = Known(seen.stamp, file.sha256, file.at, seen.mode)
    folders = {one.path: one.mode for one in manifest.folders}
    return Index(swept=index.swept, mode=manifest.mode, folders=folders, files=files)
