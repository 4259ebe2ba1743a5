"""tenants.yaml on disk: read, check, replace and reload it, with the texts that it had before.

What is replaced is kept in ``server.data/.flyatc/config``, not beside the file: there only the daemon reads it, a file
may hold secrets, and the folder of the file may be a repository or read-only. The last MOST_KEPT different texts stay.
"""

import asyncio
import errno
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from flyatc.config import document, load
from flyatc.config.errors import ConfigError, Fault
from flyatc.config.schema import Config
from flyatc.kit import durable_files, tasks
from flyatc.kit.errors import FlyatcError

MOST_KEPT = 30
ABSENT = "absent"  # fingerprint of a file that is not there
_NAME = re.compile(r"(?P<time>[0-9]{8}T[0-9]{12})-(?P<fingerprint>[0-9a-f]{64})\.yaml")
_TIME = "%Y%m%dT%H%M%S%f"
_BOM = b"\xef\xbb\xbf"
R = TypeVar("R")


class Present(Struct, frozen=True):
    """The file now. ``text``: empty if there is no file, None if it is not readable as UTF-8; then ``why`` says it."""

    fingerprint: str
    text: str | None
    why: str = ""


class Kept(Struct, frozen=True):
    """A text that the file had ``until`` it was replaced, as RFC 3339. ``size``: in bytes."""

    name: str
    until: str
    fingerprint: str
    size: int


class Changed(FlyatcError):
    """The file is not the one that an edit was based on."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} has changed since this edit was begun, and nothing was saved")


class ConfigFile:
    """``data``: server.data. One object a daemon: operators who save at once take turns."""

    def __init__(self, path: Path, data: Path, environ: Mapping[str, str]) -> None:
        self.path, self._environ = path, environ
        self._folder = data / ".flyatc" / "config"
        self._turn = asyncio.Lock()

    def read(self) -> Present:
        try:
            data = self._data()
        except ConfigError as error:
            return Present("", None, str(error))
        if data is None:
            return Present(ABSENT, "", f"there is no file {self.path} any more: saving makes it again")
        try:
            return Present(fingerprint(data), document.decoded(data, str(self.path)))
        except ConfigError as error:
            return Present(fingerprint(data), None, str(error))

    def check(self, text: str, *, thorough: bool = False) -> Config:
        """Return what the daemon would make of the text. ``thorough``: also refuse what only ``flyatc check`` reports.
        Raises ConfigError with all faults."""
        return load.load(self.path, self._environ, thorough=thorough, text=text)

    # --- saving ---

    async def save(self, text: str, based_on: str, reload: Callable[[], Awaitable[R]]) -> R:
        """Check the text, keep the present one, replace it, and return what ``reload`` returns. ``based_on``: the
        fingerprint of the file that was edited. If ``reload`` is refused, the file gets its old text back. Continues if
        the caller is cancelled. Raises Changed, ConfigError, FlyatcError; then the file is as it was."""
        return await tasks.joined(tasks.start(self._save(text, based_on, reload), "save the configuration"))

    async def _save(self, text: str, based_on: str, reload: Callable[[], Awaitable[R]]) -> R:
        async with self._turn:
            old, new = await asyncio.to_thread(self._replace, text, based_on)
            try:
                return await reload()
            except FlyatcError as error:
                done = await asyncio.to_thread(self._put_back, old, new)
                raise FlyatcError(f"the daemon refused to reload, {done}: {error}") from error

    def _replace(self, text: str, based_on: str) -> tuple[bytes | None, bytes]:
        """Return the old and the new content."""
        self.check(text)
        old = self._expect(based_on)
        new = (_BOM if old is not None and old.startswith(_BOM) else b"") + text.encode()
        try:
            if old is not None:
                if not os.access(self.path, os.W_OK, effective_ids=True):  # replacing it needs no such permission
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))
                self._keep(old)
            durable_files.replace(self.path.resolve(), new, lambda: self._expect(based_on))
        except OSError as error:
            raise FlyatcError(f"{self.path} cannot be replaced: {_why(error)}") from error
        return old, new

    def _put_back(self, old: bytes | None, new: bytes) -> str:
        """Undo ``_replace``, unless the file was changed meanwhile. Return what was done."""
        try:
            if old is None:
                self._expect(fingerprint(new))
                self.path.resolve().unlink()
            else:
                durable_files.replace(self.path.resolve(), old, lambda: self._expect(fingerprint(new)))
        except Changed:
            return f"and {self.path} was changed once more meanwhile: look at it"
        except (OSError, ConfigError) as error:
            return f"and {self.path} still has the new text ({error})"
        return f"and {self.path} is as it was"

    def _expect(self, expected: str) -> bytes | None:
        data = self._data()
        if (ABSENT if data is None else fingerprint(data)) != expected:
            raise Changed(self.path)
        return data

    def _data(self) -> bytes | None:
        """Return what is in the file; None: there is none. Raises ConfigError."""
        try:
            return document.read_bytes(self.path)
        except ConfigError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    # --- earlier texts ---

    def _keep(self, data: bytes) -> None:
        """Raises OSError."""
        if not self._folder.parent.is_dir():  # it was deleted: see daemon.data_folder
            raise FileNotFoundError(
                errno.ENOENT, f"the data folder is gone, where the old text is kept: {self._folder}"
            )
        durable_files.make_folder(self._folder)
        found = fingerprint(data)
        name = f"{datetime.now(UTC).strftime(_TIME)}-{found}.yaml"
        durable_files.write(self._folder / name, data)
        again = [one for one in self.kept() if one.fingerprint == found and one.name != name]
        others = [one for one in self.kept() if one not in again]
        for one in [*again, *others[MOST_KEPT:]]:
            (self._folder / one.name).unlink(missing_ok=True)

    def kept(self) -> list[Kept]:
        """The texts that were replaced, newest first."""
        try:
            files = [(found, path) for path in self._folder.iterdir() if (found := _NAME.fullmatch(path.name))]
            kept = [
                Kept(
                    path.name,
                    datetime.strptime(found["time"], _TIME).replace(tzinfo=UTC).isoformat(),
                    found["fingerprint"],
                    path.stat().st_size,
                )
                for found, path in files
            ]
        except FileNotFoundError:
            return []
        return sorted(kept, key=lambda one: one.name, reverse=True)

    def text_of(self, name: str) -> str:
        """Return a kept text. Raises ConfigError."""
        if _NAME.fullmatch(name) is None:
            raise ConfigError([Fault(str(self.path), None, "", f"{name!r} is no version that was kept")])
        return document.read(self._folder / name)


def fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EBUSY:
            return "it is a mount of its own: mount its folder instead"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{error.strerror}. The daemon must be allowed to write it and its folder, and to keep its owner"
    return str(error.strerror or error)
