"""The memory of this machine, or of the container."""

import contextlib
from functools import lru_cache
from pathlib import Path

UNKNOWN = 1 << 30  # octets that are assumed if nothing says it
_MACHINE, _CGROUPS, _MINE = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@lru_cache(1)
def total() -> int:
    """Return the octets that all processes together may use. Read once."""
    texts = []
    with contextlib.suppress(OSError):
        texts.append(_MACHINE.read_text())
    own = ""
    with contextlib.suppress(OSError):
        own = _MINE.read_text()
    below = Path(own.rpartition("0::")[2].strip().lstrip("/"))
    for folder in (below, *below.parents):
        with contextlib.suppress(OSError):
            texts.append((_CGROUPS / folder / "memory.max").read_text())
    return least(texts)


def least(texts: list[str]) -> int:
    """Return the smallest amount in texts of /proc/meminfo (proc_meminfo(5)) and memory.max (cgroups v2)."""
    found = [UNKNOWN << 10]
    for text in texts:
        for line in text.splitlines():
            name, _, amount = line.rpartition(":")
            words = amount.split()
            if name in ("MemTotal", "") and words and words[0].isdecimal():
                found.append(int(words[0]) * (1024 if name else 1))
    return min(found) if len(found) > 1 else UNKNOWN
