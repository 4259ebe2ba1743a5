"""Confine this process just before it becomes an app: limits, user id, capabilities, Landlock.

``run_root`` calls it in the forked child, which has one thread. The daemon describes the confinement as a list of
``KEY=VALUE``, see ``Confinement.words``. Raises OSError; ``step`` names the part that failed."""

import ctypes
import os
import resource
import struct

from flyatc.process.isolation import landlock

PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 24, 38  # prctl(2)
CAPABILITY_VERSION_3 = 0x20080522  # capset(2)
CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE = 0, 1, 3, 4, 5, 6, 7, 10
KEPT = (CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE)  # of an app that runs as root
CAPABILITIES = 64
FORMAT, PIPE = 0o170000, 0o010000  # st_mode, inode(7)
DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty", b"ptmx", b"pts")  # of /dev
CLOSE_RANGE, CLOSE_RANGE_CLOEXEC = 436, 4  # close_range(2)

_libc = ctypes.PyDLL(None, use_errno=True)

step = ""


def confine(words: "list[bytes]") -> None:
    """Apply the confinement. ``words``: KEY=VALUE; without any, nothing is done."""
    global step
    if not words:
        return
    pairs = [(key, value) for key, _, value in (word.partition(b"=") for word in words)]
    single = dict(pairs)
    step = "limits"
    _limit(single)
    step = "landlock"
    ruleset = _ruleset(int(single[b"landlock"]), pairs) if b"landlock" in single else None
    step = "user"
    if b"user" in single:
        _become_user(int(single[b"user"]))
    elif ruleset is not None and os.geteuid() == 0:
        _drop_capabilities()
    step = "landlock"
    checked(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if ruleset is not None:
        ruleset.enforce()
    step = ""


def hide_process() -> None:
    """Make this process's environment and memory unreadable for others of its user id (proc(5), PR_SET_DUMPABLE)."""
    _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def close_on_exec() -> None:
    """Let no descriptor but stdin, stdout and stderr reach the app, also none that others left open."""
    _libc.syscall(CLOSE_RANGE, 3, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC)


def _limit(single: "dict[bytes, bytes]") -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if b"memory" in single:
        octets = int(single[b"memory"])
        resource.setrlimit(resource.RLIMIT_DATA, (octets, octets))
    if b"cores" in single:
        os.sched_setaffinity(0, map(int, single[b"cores"].split(b",")))


def _become_user(number: int) -> None:
    for stream in (1, 2):  # so that the app may open /dev/stdout; not a file or terminal of the operator
        if os.fstat(stream).st_mode & FORMAT == PIPE:
            os.fchown(stream, number, number)
    os.setgroups([])
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)


def _drop_capabilities() -> None:
    """Keep what a program that runs as root needs for its own files; drop what reaches beyond Landlock."""
    for number in range(CAPABILITIES):
        if number not in KEPT:
            _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # EINVAL: the kernel has fewer
    kept = sum(1 << number for number in KEPT) & _permitted()
    header, data = struct.pack("Ii", CAPABILITY_VERSION_3, 0), struct.pack("6I", kept, kept, 0, 0, 0, 0)
    checked(_libc.capset(header, data))


def _permitted() -> int:
    header, data = struct.pack("Ii", CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(24)
    checked(_libc.capget(header, data))
    return int(struct.unpack("6I", data.raw)[1])


def _ruleset(abi: int, pairs: "list[tuple[bytes, bytes]]") -> landlock.Ruleset:
    """Read everything but ``hide``; list ``list``; write ``write``, where it does not contain ``keep``."""
    hidden = [value for key, value in pairs if key == b"hide"]
    kept = landlock.Hidden([*hidden, *(value for key, value in pairs if key == b"keep")])
    ruleset = landlock.Ruleset(abi)
    ruleset.grant(b"/", landlock.READ, landlock.Hidden([*hidden, b"/dev"]))
    for name in DEVICES:
        ruleset.add(b"/dev/" + name, landlock.READ | landlock.WRITE_FILE)
    for key, value in pairs:
        if key == b"list":
            ruleset.add(value, landlock.READ_DIR)
        elif key == b"write":
            ruleset.grant(value, landlock.READ | landlock.WRITE, kept)
    return ruleset


def checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
