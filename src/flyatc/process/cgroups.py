"""A cgroup of its own for each run, where this process may make one: cgroups(7), version 2.

The kernel then keeps the list of the run's processes, and kills all of them at once (cgroup.kill, Linux 5.14). Without
it they are found by descent (see ``members``)."""

import contextlib
import os
from pathlib import Path

from flyatc.process.members import stat

MOUNTS, MINE = Path("/proc/self/mountinfo"), Path("/proc/self/cgroup")
SWITCH = "FLYATC_CGROUPS"  # "off": none are made


class Cgroups:
    """Below one folder of this daemon. ``base`` None: none can be made, and ``make`` returns an empty path."""

    def __init__(self, base: Path | None) -> None:
        self._base = base

    @classmethod
    def of(cls, wanted: str | None) -> "Cgroups":
        """Looks once whether cgroups can be made here. ``wanted``: the value of FLYATC_CGROUPS."""
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
        """The path of a new one; empty where it cannot be made."""
        if self._base is None:
            return ""
        path = self._base / name
        try:
            path.mkdir(parents=True)
        except OSError:
            return ""
        return str(path)

    def close(self) -> None:
        """No run is left."""
        if self._base is not None:
            remove(str(self._base))


def remove(path: str) -> None:
    """With those which the app has made below it. One that still has processes stays."""
    for folder, _, _ in os.walk(path, topdown=False) if path else ():
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def _ours() -> Path | None:
    """The folder of the cgroup that we are in."""
    try:
        mounts, mine = MOUNTS.read_text(), MINE.read_text()
    except OSError:
        return None
    return locate(mounts, mine)


def locate(mounts: str, mine: str) -> Path | None:
    """From the texts of /proc/self/mountinfo and /proc/self/cgroup: proc_pid_mountinfo(5), cgroups(7)."""
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
