"""``flyatc exec`` for many tenants: the run, its journal, the output of each tenant in a file."""

import fcntl
import os
import queue
import secrets
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from flyatc.cli.execute_plan import (
    DONE,
    ELSEWHERE,
    FAILED,
    INTERRUPTED,
    Finish,
    Head,
    Journal,
    Progress,
    Result,
    Start,
    Unreadable,
    next_step,
    read,
)
from flyatc.config.schema_sections import segment_of
from flyatc.control.client import Cut
from flyatc.control.execute import Command, Ended
from flyatc.control.execute_client import Call
from flyatc.kit import durable_files
from flyatc.kit.errors import FlyatcError

KEPT = 50  # runs whose journal and output are kept
JOURNAL = "journal.jsonl"


class Book:
    """The folder of one run, below server.data: journal and outputs. One process at a time has it."""

    def __init__(self, folder: Path, file: BinaryIO, journal: Journal) -> None:
        self.folder, self._file, self.journal = folder, file, journal

    @classmethod
    def new(cls, data: str, head: Head) -> "Book":
        """Raises OSError."""
        folder = _runs(data) / head.run
        durable_files.make_folder(folder)
        durable_files.write(folder / JOURNAL, msgspec.json.encode(head) + b"\n")
        for old in _newest_first(data)[KEPT:]:
            _remove(old)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Book":
        """Open the journal of a run to go on with it. Raises OSError, FlyatcError."""
        path = folder / JOURNAL
        file = path.open("r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = file.read()
            journal = read(text)
            file.truncate(text.rfind(b"\n") + 1)  # a crash has cut the last line
            file.seek(0, os.SEEK_END)
        except (BlockingIOError, Unreadable) as error:
            file.close()
            if isinstance(error, BlockingIOError):
                raise FlyatcError(f"another flyatc exec is busy with the run {folder.name}") from error
            raise FlyatcError(f"the journal {path} cannot be read: {error}") from error
        return cls(folder, file, journal)

    @classmethod
    def unfinished(cls, data: str, scope: str | None, command: Sequence[str]) -> "Book":
        """Open the newest run of that scope, and of that command if there is one. Raises OSError, FlyatcError."""
        for folder in _newest_first(data):
            book = cls.open(folder)
            head = book.journal.head
            if head.scope == scope and not head.rehearse and list(command or head.command) == head.command:
                if not book.journal.left:
                    raise FlyatcError(f"nothing is left to do of the run {head.run}: {book.journal.summary}")
                return book
            book.close()
        raise FlyatcError(f"there is no such run below {_runs(data)}: start one without --resume")

    def add(self, result: Result) -> None:
        """Durable on return. Raises OSError."""
        self._file.write(msgspec.json.encode(result) + b"\n")
        os.fsync(self._file.fileno())

    def output(self, tenant: str) -> Path:
        user, _, name = tenant.partition("/")
        return self.folder / f"{user}~{segment_of(name)}.log"

    def close(self) -> None:
        self._file.close()


def new_name() -> str:
    """Name a run; later names sort later."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def _runs(data: str) -> Path:
    return Path(data) / ".flyatc" / "exec"


def _newest_first(data: str) -> list[Path]:
    return sorted((one.parent for one in _runs(data).glob(f"*/{JOURNAL}")), reverse=True)


def _remove(folder: Path) -> None:
    for found in folder.iterdir():
        found.unlink()
    folder.rmdir()


class Runner:
    """Runs the command of ``book`` for the tenants that are left, a thread each. ``tell``: called with each result."""

    def __init__(self, data: str, book: Book, tell: Callable[[Result], None]) -> None:
        self._data, self._book, self._tell = data, book, tell
        self._ends: queue.SimpleQueue[Result | None] = queue.SimpleQueue()  # None: Ctrl-C
        self._calls: dict[str, Call] = {}
        self._cutting = False

    def run(self, parallel: int, *, keep_going: bool, interrupted: Callable[[], None]) -> tuple[Progress, str]:
        """Return the results, and why it has ended. At the first Ctrl-C no other tenant is begun; at the second what
        runs is ended, and undone. ``interrupted``: called at the first. Raises OSError if the journal cannot be
        written: then what runs is ended."""
        now = Progress(self._book.journal.left)
        before = signal.signal(signal.SIGINT, lambda number, frame: self._ends.put(None))
        try:
            while not isinstance(step := next_step(now, parallel), Finish):
                if isinstance(step, Start):
                    now.waiting.remove(step.tenant)
                    now.running.add(step.tenant)
                    threading.Thread(target=self._one, args=(step.tenant,), daemon=True).start()
                elif (result := self._ends.get()) is not None:
                    now.ended(result, keep_going=keep_going)
                    self._book.add(result)
                    self._tell(result)
                elif now.interrupted:
                    self._cut()
                else:
                    now.interrupt()
                    interrupted()
        finally:
            signal.signal(signal.SIGINT, before)
            self._cut()
        return now, step.reason

    def _cut(self) -> None:
        self._cutting = True
        for call in list(self._calls.values()):
            call.hang_up()

    def _one(self, tenant: str) -> None:
        began, path = time.monotonic(), self._book.output(tenant)
        try:
            ended = self._execute(tenant, path)
            result = _result(tenant, ended)
        except Cut as error:
            result = Result(tenant=tenant, state=INTERRUPTED, error=None if self._cutting else str(error))
        except (FlyatcError, OSError) as error:
            result = Result(tenant=tenant, state=FAILED, error=str(error))
        seconds = round(time.monotonic() - began, 3)
        self._ends.put(msgspec.structs.replace(result, seconds=seconds, output=str(path)))

    def _execute(self, tenant: str, path: Path) -> Ended:
        head = self._book.journal.head
        command = Command(address=tenant, words=head.command, run=head.run, undo=head.undo, rehearse=head.rehearse)
        with Path(os.devnull).open("rb") as nothing, path.open("ab") as file:
            call = Call(self._data, command, [nothing.fileno(), file.fileno(), file.fileno()])
        self._calls[tenant] = call
        try:
            if self._cutting:
                call.hang_up()
            return call.end()
        finally:
            del self._calls[tenant]
            call.close()


def _result(tenant: str, ended: Ended) -> Result:
    if ended.machine is not None:
        return Result(tenant=tenant, state=ELSEWHERE, error=ended.error, machine=ended.machine)
    if ended.code == 0 and ended.error is None:
        return Result(tenant=tenant, state=DONE, code=0)
    code = ended.code if ended.signal is None else 128 + ended.signal
    return Result(tenant=tenant, state=FAILED, code=code, error=ended.error)
