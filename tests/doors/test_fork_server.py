"""A forked flyatc is as one that Python starts: the tests of ``tests/whole`` depend on it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import fork_server
from slowness import SLOWNESS
from whole.daemon import clean_environment, eventually

WAYS = ("forked", "started")


@contextmanager
def waiting(folder: Path, way: str) -> Iterator[fork_server.Process | subprocess.Popen[bytes]]:
    """``flyatc run`` of a program that has read its input, and does not end."""
    folder.mkdir()
    env = clean_environment() | {"HTTP_PORT": "0", "TARGET_PORT": "1", "GIVEN": "a variable"}
    command = ["run", "--", "sh", "-c", 'cat >app; echo "$GIVEN $PWD $PPID" >>app; exec sleep 600']
    python = [sys.executable] if way == "started" else []
    with (folder / "log").open("wb") as log:
        process = fork_server.start(command, folder, env, log, piped=True, python=python)
    assert process.stdin is not None
    try:
        process.stdin.write(b"the input\n")
        process.stdin.close()
        expected = f"the input\na variable {folder} {process.pid}\n"
        eventually(lambda: (folder / "app").exists() and (folder / "app").read_text() == expected, 20, expected)
        yield process
    finally:
        process.kill()
        process.wait()


def seen(pid: int, folder: Path) -> dict[str, object]:
    """The state of a process in the kernel, without numbers that differ each time."""
    at = Path(f"/proc/{pid}")
    status = dict(re.findall(r"^(\w+):\s*(.*)$", (at / "status").read_text(), re.MULTILINE))
    files = []
    for one in (at / "fd").iterdir():
        with suppress(FileNotFoundError):  # just closed
            files.append(re.sub(r"\d+", "", str(one.readlink()).replace(str(folder), "")))
    return {
        "group": os.getpgid(pid) == os.getpgrp(),
        "folder": (at / "cwd").readlink() == folder,
        "files": sorted(files),
        "limits": (at / "limits").read_text(),
        **{name: status[name] for name in ("SigBlk", "SigIgn", "SigCgt", "Umask", "Uid", "Threads", "NoNewPrivs")},
    }


def test_the_kernel_sees_no_difference(tmp_path: Path) -> None:
    with waiting(tmp_path / "a", "forked") as one, waiting(tmp_path / "b", "started") as other:
        eventually(lambda: seen(one.pid, tmp_path / "a") == seen(other.pid, tmp_path / "b"), 10, "the same")
        assert seen(one.pid, tmp_path / "a").items() >= {"group": True, "folder": True}.items()


@pytest.mark.parametrize("way", WAYS)
def test_it_is_waited_for_and_ended_as_another_process(tmp_path: Path, way: str) -> None:
    with waiting(tmp_path / "it", way) as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait(20 * SLOWNESS) == -signal.SIGKILL
        assert process.poll() == process.returncode == -signal.SIGKILL
        process.terminate()


@pytest.mark.parametrize("arguments", [["version"], ["statsu"], ["check", "--config", "nonesuch"], ["route"], []])
def test_a_command_says_the_same_and_has_the_same_exit_code(tmp_path: Path, arguments: list[str]) -> None:
    env = clean_environment()
    forked = fork_server.run(arguments, tmp_path, env, 30 * SLOWNESS)
    command = [sys.executable, "-m", "flyatc", *arguments]
    started = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)
    assert forked.stdout or forked.stderr


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    command = ["run", "--", "sh", "-c", "echo $$ >pid; exec sleep 600"]
    with pytest.raises(subprocess.TimeoutExpired):
        fork_server.run(command, tmp_path, clean_environment() | {"HTTP_PORT": "0"}, 1 * SLOWNESS)
    eventually(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists(), what="its end")
