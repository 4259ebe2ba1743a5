"""A session of this test suite ends the processes it leaves behind, and scales the time limit of each test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import leftovers
from flyatc.process import proc
from slowness import SLOWNESS
from whole.daemon import eventually

ROOT = Path(__file__).parents[2]
LEAVES_ONE = """
import os, subprocess, sys

def test_one_that_leaves_a_process():
    orphan = ("import os, time, sys; os.setsid(); "
              "print(os.getpid(), file=open(sys.argv[1], 'w'), flush=True); time.sleep(1000)")
    subprocess.run(["sh", "-c", '"$@" & ', "sh", sys.executable, "-c", orphan, os.environ["PID_FILE"]], check=True)

def test_one_that_ends_what_it_starts():
    subprocess.run(["true"], check=True)
"""


IS_SLOW = """
import os, pytest, time

@pytest.mark.timeout(1)
def test_one_that_takes_its_time():
    time.sleep(float(os.environ["SECONDS"]))
"""


def run(folder: Path, text: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A session with our conftest."""
    (folder / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "conftest", *arguments]
    ours = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}  # of our caller
    return subprocess.run(
        [*command, str(folder / "test_it.py")],
        cwd=ROOT,
        env={**ours, "PYTHONPATH": str(ROOT / "tests"), "PID_FILE": str(folder / "pid"), **env},
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
        check=False,
    )


@pytest.mark.parametrize("workers", [("-p", "no:xdist"), ("-n", "2")], ids=["alone", "workers"])
def test_a_session_that_leaves_a_process_fails_names_it_and_ends_it(tmp_path: Path, workers: tuple[str, ...]) -> None:
    ours = subprocess.Popen(["sleep", "1000"])
    try:
        done = run(tmp_path, LEAVES_ONE, *workers)
        assert ours.poll() is None, "what belongs to another session is left alone"
    finally:
        ours.kill()
        ours.wait()
    pid = int((tmp_path / "pid").read_text())
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert f"pid {pid}: {sys.executable} -c" in done.stdout
    assert "test_one_that_leaves_a_process (call)" in done.stdout
    eventually(lambda: (one := proc.find(pid)) is None or one.ended, what="its end")


def test_a_session_that_leaves_nothing_passes(tmp_path: Path) -> None:
    done = run(tmp_path, LEAVES_ONE, "-k", "ends_what_it_starts")
    assert done.returncode == 0, done.stdout
    assert "left behind" not in done.stdout


def test_what_goes_by_itself_is_waited_for_and_not_reported(tmp_path: Path) -> None:
    mark = "a-mark-of-its-own"
    process = subprocess.Popen(["sleep", "0.3"], env={**os.environ, leftovers.MARK: mark})
    eventually(lambda: leftovers.find(mark))
    assert leftovers.end(mark, 20 * SLOWNESS) == []
    assert process.wait() == 0


@pytest.mark.parametrize(("factor", "seconds", "passes"), [("1", "100", False), ("60", "1.5", True)])
def test_the_time_limit_of_a_test_grows_with_the_factor(
    tmp_path: Path, factor: str, seconds: str, passes: bool
) -> None:
    done = run(tmp_path, IS_SLOW, "-p", "no:xdist", FLYATC_TEST_SLOWNESS=factor, SECONDS=seconds)
    assert (done.returncode == 0) is passes, done.stdout
    assert ("test_one_that_takes_its_time" in done.stdout) is not passes  # named as failed only
