"""The limit of open files (RLIMIT_NOFILE, getrlimit(2)): raised for flyatc, which has clients; apps keep the one that
flyatc was started with, since programs that use select(2) must not get descriptors above 1023."""

import contextlib
import resource

MOST = 1 << 20
WAYS = "ulimit -Hn; LimitNOFILE of systemd; --ulimit of Docker"  # to raise the hard limit

_inherited: tuple[int, int] | None = None


def raise_it() -> None:
    """Raise the soft limit of this process to the hard one, at most to MOST."""
    global _inherited
    _inherited = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # then it stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def inherited() -> tuple[int, int]:
    """Return the soft and the hard limit with which this process was started."""
    return _inherited or resource.getrlimit(resource.RLIMIT_NOFILE)
