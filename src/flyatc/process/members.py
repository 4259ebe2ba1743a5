"""Find, signal and kill the processes of one run; create its cgroup.

The supervisor imports this module and must start within milliseconds and stay small. So it uses little of the standard
library and nothing else.

A run has a *root*: a child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), so everything started below it stays below
it, even with a new session or environment. If the root is gone, the processes are found by the run's cgroup and by
FLYATC_RUN in the environment.

Each run gets its own cgroup (cgroups(7), version 2) if this process may create one. The kernel then lists the run's
processes and kills all at once (cgroup.kill, Linux 5.14).
"""

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

PROC = "/proc"
MARK = "FLYATC_RUN"  # in the environment of the app
WITHOUT_LEASE = "free-"  # begins the mark of a run that writes nothing of a tenant
VARIABLE = f"{MARK}=".encode()
ROUNDS = 50  # of SIGSTOP to processes that fork during the scan
LONGEST = 200  # characters shown of a command line

# state, parent, process group, session, start in clock ticks since boot, ticks of CPU time (waited children's as well)
Stat = tuple[str, int, int, int, int, int]


def stat(pid: int) -> Stat | None:
    """Read the process's stat, or None if there is no such process. proc_pid_stat(5)."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name is in brackets and may contain anything, including brackets: the fields follow the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return (
        fields[0].decode(),
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        int(fields[19]),
        sum(map(int, fields[11:15])),
    )


def pids() -> list[int]:
    return [int(name) for name in os.listdir(PROC) if name.isdecimal()]


class Target:
    """The processes of one run, without ``root`` itself, ``spared`` and the descendants of those."""

    __slots__ = ("cgroup", "mark", "root", "spared", "started")

    def __init__(self, root: int, started: int, mark: str, cgroup: str = "", spared: Iterable[int] = ()) -> None:
        self.root, self.started, self.mark, self.cgroup = root, started, mark, cgroup
        self.spared = frozenset(spared)

    def rooted(self) -> bool:
        """Return whether the root still runs."""
        found = stat(self.root)
        return found is not None and found[4] == self.started and found[0] not in "ZX"

    def find(self, look: "ProcessScan | None" = None) -> list[int]:
        """Return the pids, without zombies, which hold no file. ``look``: a scan shared by several targets."""
        look = look or ProcessScan()
        found = set(_in_cgroup(self.cgroup))
        if self.rooted():
            found |= descendants(self.root, self.spared, look)
        else:
            found |= look.marked(self.mark)
        return [pid for pid in found - self.spared - {self.root, os.getpid()} if _runs(pid)]

    def kill(self) -> None:
        kill([self])


def kill(targets: Iterable[Target]) -> None:
    """Send SIGKILL to all processes of the targets. Repeat until none is left.

    They get SIGSTOP first, as they may fork faster than the list is read: a stopped process does not fork."""
    targets = list(targets)
    for target in targets:
        _write(f"{target.cgroup}/cgroup.kill" if target.cgroup else "", "1")
    stopped: set[int] = set()
    for _ in range(ROUNDS):
        look = ProcessScan()
        new = {pid for target in targets for pid in target.find(look)} - stopped
        if not new:
            break
        send(new, signal.SIGSTOP)
        stopped |= new
    send(stopped, signal.SIGKILL)


def send(to: Iterable[int], number: int) -> None:
    for pid in to:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):  # gone, or another user's: the next scan finds it again
            continue


def describe(pid: int) -> str:
    """Return the pid and its command line, for an error message."""
    try:
        with open(f"{PROC}/{pid}/cmdline", "rb") as file:
            text = file.read(4 * LONGEST).rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        text = ""
    return f"{pid} ({text[:LONGEST] or 'no command line'})"


def _runs(pid: int) -> bool:
    found = stat(pid)
    return found is not None and found[0] not in "ZX"


def _in_cgroup(path: str) -> set[int]:
    """Return the pids in the run's cgroup and in those that the app created below it; none if it is gone."""
    found: set[int] = set()
    for folder, _, _ in os.walk(path) if path else ():
        try:
            with open(f"{folder}/cgroup.procs") as file:
                found.update(int(line) for line in file)
        except OSError:
            continue
    return found


class ProcessScan:
    """A scan of the processes, shared by several targets: expensive data is read once, and only if needed."""

    def __init__(self) -> None:
        self._lists = os.path.exists(f"{PROC}/self/task/{os.getpid()}/children")
        self._parents: dict[int, list[int]] | None = None
        self._marks: dict[bytes, set[int]] | None = None

    def children(self, pid: int) -> list[int]:
        """Return the children from the process's own list, whose cost depends on the run, not on the machine. If the
        kernel has no such lists (CONFIG_PROC_CHILDREN), by the parents of all processes."""
        if self._lists:
            return _children(pid)
        if self._parents is None:
            self._parents = {}
            for one in pids():
                if (found := stat(one)) is not None:
                    self._parents.setdefault(found[1], []).append(one)
        return self._parents.get(pid, [])

    def marked(self, mark: str) -> set[int]:
        """Return the pids with the mark in their initial environment, unless they have overwritten it."""
        if self._marks is None:
            self._marks = {}
            for pid in pids():
                for variable in _environ(pid):
                    if variable.startswith(VARIABLE):
                        self._marks.setdefault(variable.removeprefix(VARIABLE), set()).add(pid)
        return self._marks.get(mark.encode(), set()) if mark else set()


def descendants(root: int, spared: frozenset[int], look: ProcessScan) -> set[int]:
    """Return the pids of the processes below ``root``, without ``spared`` and what is below them."""
    found: set[int] = set()
    pending = [root]
    while pending:
        for pid in look.children(pending.pop()):
            if pid not in found and pid not in spared:
                found.add(pid)
                pending.append(pid)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(f"{PROC}/{pid}/task")
        for thread in threads:
            with open(f"{PROC}/{pid}/task/{thread}/children") as file:
                found.extend(map(int, file.read().split()))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return found


def _environ(pid: int) -> list[bytes]:
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _write(path: str, text: str) -> None:
    if path:
        try:
            with open(path, "w") as file:
                file.write(text)
        except OSError:
            return


MOUNTS, MINE = Path("/proc/self/mountinfo"), Path("/proc/self/cgroup")
SWITCH = "FLYATC_CGROUPS"  # "off": none are created


class Cgroups:
    """Creates cgroups below this daemon's ``base``. None: no cgroup can be created, and ``make`` returns ""."""

    def __init__(self, base: Path | None) -> None:
        self._base = base

    @classmethod
    def of(cls, wanted: str | None) -> "Cgroups":
        """Check once whether cgroups can be created here. ``wanted``: the value of FLYATC_CGROUPS."""
        if wanted == "off" or (ours := _ours()) is None:
            return cls(None)
        for left in ours.glob("flyatc-*"):
            if (pid := left.name.removeprefix("flyatc-")).isdecimal() and stat(int(pid)) is None:
                remove(str(left))  # its daemon was killed
        base = ours / f"flyatc-{os.getpid()}"
        try:
            base.mkdir(exist_ok=True)
            usable = (base / "cgroup.kill").exists() and os.access(ours / "cgroup.procs", os.W_OK)
        except OSError:
            return cls(None)
        found = cls(base)
        if not usable:
            found.close()
            return cls(None)
        return found

    @property
    def usable(self) -> bool:
        return self._base is not None

    def make(self, name: str) -> str:
        """Create a cgroup and return its path; empty if it cannot be created."""
        if self._base is None:
            return ""
        path = self._base / name
        try:
            path.mkdir(parents=True)
        except OSError:
            return ""
        return str(path)

    def close(self) -> None:
        """Remove the base; call when no run is left."""
        if self._base is not None:
            remove(str(self._base))


def remove(path: str) -> None:
    """Remove the cgroup and those that the app created below it, except cgroups that still have processes."""
    for folder, _, _ in os.walk(path, topdown=False) if path else ():
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def _ours() -> Path | None:
    """Return the folder of this process's cgroup."""
    try:
        mounts, mine = MOUNTS.read_text(), MINE.read_text()
    except OSError:
        return None
    return locate(mounts, mine)


def locate(mounts: str, mine: str) -> Path | None:
    """Find the folder in /proc/self/mountinfo and /proc/self/cgroup: proc_pid_mountinfo(5), cgroups(7)."""
    path = next((line[3:] for line in mine.splitlines() if line.startswith("0::/")), None)
    for line in mounts.splitlines() if path is not None else ():
        fields, _, rest = line.partition(" - ")
        if rest.split(" ")[0] != "cgroup2":
            continue
        root, mount = fields.split(" ")[3:5]
        assert path is not None
        if root == "/":
            return Path(mount + path)
        if path == root or path.startswith(f"{root}/"):  # the mount shows a part of the tree
            return Path(mount + path.removeprefix(root))
    return None
