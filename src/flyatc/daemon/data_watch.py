"""Watch for databases that an app writes and flyatc does not save, and for files that two tenants have open.

An app that ignores ``{data}`` (a wrong RAILS_ENV, a hard-coded path) looks ready, while nothing of it is saved and all
tenants share one file. Its processes show it: /proc/PID/fd. The looks run in a thread, beside the requests: soon after
the start, then rarely, and once more when the app has ended, before the databases are saved.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import time

from flyatc.config import database_names
from flyatc.config.schema import Tenant
from flyatc.databases import database_patterns, find_databases
from flyatc.databases.databases_in_use import HeldDatabases
from flyatc.databases.decisions import alarms
from flyatc.databases.find_databases import FolderScan
from flyatc.kit import tasks
from flyatc.kit.durable_files import Inode, inode_of
from flyatc.kit.errors import FlyatcError
from flyatc.observe.log import Log
from flyatc.process import open_files
from flyatc.process.child import RunningChild
from flyatc.process.open_files import OpenFile

FIRST = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 30.0, 120.0)  # s after ready
_PATH = re.compile(r"/[^\s:;,'\"?#|&<>]+")
EVERY = 300.0  # s; later
FOUND_EVERY = 60.0  # s; later, if there are patterns, which may match something new
PATIENCE = 20.0  # s; for the last look
KINDS = 10_000  # files whose kind is remembered


@dataclass(frozen=True)
class _Use:
    address: str  # of the tenant
    path: str
    since: float  # Unix time; start of the run


@dataclass(frozen=True)
class _Seen:
    """Result of one look. ``open``: the databases open for writing, each with the time of its last change; ``named``:
    those that the command or environment names, if the ones to be saved are missing."""

    open: list[tuple[OpenFile, float]]
    named: list[tuple[str, Inode, float]]
    missing: list[str]
    beside: list[str]
    unlisted: list[str]


class OpenDatabases:
    """The databases that the apps of this daemon have open. ``held``: those that flyatc itself may have open as well.
    ``skipped``: paths of flyatc. ``saves``: there is a store."""

    def __init__(self, log: Log, held: HeldDatabases, skipped: Collection[Path], *, saves: bool) -> None:
        self.log, self.held, self.skipped, self.saves = log, held, skipped, saves
        self._uses: dict[Inode, dict[str, _Use]] = {}
        self._kinds: dict[Inode, bool] = {}

    def databases(self, files: Iterable[OpenFile]) -> list[OpenFile]:
        """Return the files that are databases. In a thread. What flyatc may have open itself is not opened again: see
        ``unlisted``."""
        files = list(files)
        if any(one.identity not in self._kinds for one in files):
            for path in self.held.paths():
                if (identity := inode_of(path)) is not None:
                    self._kinds[identity] = True
        return [one for one in files if self._is_database(one)]

    def _is_database(self, one: OpenFile) -> bool:
        if one.identity not in self._kinds:
            if len(self._kinds) > KINDS:
                self._kinds.clear()
            try:
                self._kinds[one.identity] = find_databases.is_database(one.handle)
            except OSError:  # closed meanwhile
                return False
        return self._kinds[one.identity]

    def add(self, identity: Inode, use: _Use, changed: float) -> _Use | None:
        """Note that a tenant has a database open. Return another tenant's use of the same file, if it was written since
        one of them started: a reference database that is only read may be shared."""
        uses = self._uses.setdefault(identity, {})
        for other in uses.values():
            if other.address != use.address and changed >= min(other.since, use.since):
                return other
        uses[use.address] = use
        return None

    def remove(self, address: str) -> None:
        for identity, uses in list(self._uses.items()):
            if uses.pop(address, None) is not None and not uses:
                del self._uses[identity]


class DataWatch:
    """The watch of one run. ``refuse`` ends the run; its argument is the reason. Use ``hold``."""

    def __init__(self, tenant: Tenant, refuse: Callable[[str], None], files: OpenDatabases) -> None:
        self._tenant, self._refuse, self._files = tenant, refuse, files
        self.overlooked: list[str] = []
        self._began = time()
        self._outside: dict[str, None] = {}  # seen so far, as is what is beside
        self._beside: dict[str, None] = {}
        self._folder = database_patterns.scan(tenant)
        self._names = tenant.app.databases  # that are saved: more are found by the patterns
        self._directory = FolderScan(Path(tenant.app.directory), self._is_skipped)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def hold(
        cls, tenant: Tenant, refuse: Callable[[str], None], files: OpenDatabases
    ) -> AsyncIterator["DataWatch"]:
        """The exit looks into the folder once more: the app has ended, and its databases are saved next."""
        watch = cls(tenant, refuse, files)
        try:
            yield watch
        finally:
            await watch.close()

    def begin(self, child: RunningChild) -> None:
        """Begin to look: the app is ready."""
        if self._tenant.app.databases or self._tenant.patterns or self._files.saves:
            self._task = tasks.start(self._watch(child), f"data of {self._tenant.address}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._files.remove(self._tenant.address)
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._look(None)

    async def _watch(self, child: RunningChild) -> None:
        before = 0.0
        for moment in FIRST:
            await asyncio.sleep(moment - before)
            await self._look(child)
            before = moment
        while True:
            await asyncio.sleep(FOUND_EVERY if self._tenant.patterns else EVERY)
            await self._look(child)

    async def _look(self, child: RunningChild | None) -> None:
        self._names = self._files.held.names(self._tenant)
        seen = await asyncio.to_thread(self._see, child)
        unsaved = await self._include(seen.unlisted)
        used = [*((one.path, one.identity, changed) for one, changed in seen.open), *seen.named]
        for path, identity, changed in used:
            other = self._files.add(identity, _Use(self._tenant.address, path, self._began), changed)
            if other is not None:
                return self._refuse(
                    f"{self._tenant.address} and {other.address} have the same database open: {alarms.shown(path)}. "
                    "Its writes would be the other tenant's. Does the app use {data}?"
                )
        self._note(seen, unsaved)

    async def _include(self, names: list[str]) -> list[str]:
        """Save the new databases that the patterns match, from now on. Return the others, but for those that are left
        out on purpose."""
        others, address = [], self._tenant.address
        for name in names:
            if database_names.left_out(self._tenant.patterns, name):
                continue
            saved = self._files.held.names(self._tenant)
            if len(saved) >= database_patterns.MOST or not database_patterns.is_new(self._tenant, name, saved):
                others.append(name)
                continue
            try:
                await self._files.held.include(self._tenant, name)
            except (FlyatcError, OSError) as error:  # the next look tries again
                others.append(name)
                self._files.log.event("warning", "a new database is not saved yet", tenant=address, reason=str(error))
            else:
                self._files.log.event("info", "a new database is saved from now on", tenant=address, database=name)
        return others

    def _note(self, seen: _Seen, unsaved: list[str]) -> None:
        if not self._files.saves:
            return
        below = f"{self._tenant.data.resolve()}/"  # as /proc shows the paths of open files
        for one, changed in seen.open:
            if not one.path.startswith(below) and (seen.missing or changed >= self._began):
                self._outside[one.path] = None
        self._beside |= dict.fromkeys(seen.beside)
        found = alarms.overlooked(seen.missing, list(self._outside), list(self._beside), unsaved)
        for sentence in found:
            if sentence not in self.overlooked:
                self._files.log.event("warning", "not all of it is saved", tenant=self._tenant.address, reason=sentence)
        self.overlooked = found

    # --- in a thread ---

    def _see(self, child: RunningChild | None) -> _Seen:
        data, names = self._tenant.data, self._names
        opened = []
        if child is not None and (names or self._tenant.patterns):  # else files may be shared
            opened = self._files.databases(open_files.read_open_files(child.members()))
        dated = [(one, max(find_databases.known(one.changed), find_databases.changed(one.path))) for one in opened]
        missing = [name for name in self._tenant.app.databases if not _is_filled(data / name)]
        named: list[tuple[str, Inode, float]] = []
        beside: list[str] = []
        if missing and child is not None and all(one.path.startswith(f"{data.resolve()}/") for one in opened):
            named = self._named(child)
            beside = [path for path, _, _ in named] or self._in_directory()
        return _Seen(dated, named, missing, beside, self._folder.look(names).names)

    def _named(self, child: RunningChild) -> list[tuple[str, Inode, float]]:
        """Return the databases that its command or environment names, and that were written since the start: an app
        may open its database for the time of a request only."""
        found = []
        for path in sorted({path for word in child.words for path in _PATH.findall(word)}):
            changed, identity = find_databases.changed(path), inode_of(Path(path))
            if changed >= self._began and identity is not None and self._is_outside(Path(path)):
                found.append((path, identity, changed))
        return found

    def _in_directory(self) -> list[str]:
        """Return the databases in the app's directory that were written since the start."""
        folder = Path(self._tenant.app.directory)
        return [str(folder / name) for name in self._directory.look(since=self._began).names]

    def _is_outside(self, path: Path) -> bool:
        if path.is_relative_to(self._tenant.data) or path in self._files.held.paths():
            return False
        try:
            return find_databases.is_database(str(path))
        except OSError:
            return False

    def _is_skipped(self, name: str) -> bool:
        path = Path(self._tenant.app.directory) / name
        return path in self._files.skipped or path.name == "node_modules"


def _is_filled(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
