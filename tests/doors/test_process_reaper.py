"""Real zombies: adopted ones are reaped, those which asyncio waits for are not."""

import asyncio
import os
import subprocess
from sys import executable

from flyatc.process import proc
from flyatc.process.proc import Reaper
from slowness import SLOWNESS

ADOPTED = """
import os, time
from flyatc.process import proc
from flyatc.process.proc import Reaper, adopt_orphans

assert adopt_orphans()
reported, tell = os.pipe()
if os.fork() == 0:                                  # a child ...
    if os.fork() == 0:                              # ... whose own child outlives it
        while os.getppid() != int(os.environ["ME"]):
            time.sleep(0.001)
        os.write(tell, b"%d" % os.getpid())
        os._exit(0)
    os._exit(0)
os.wait()
orphan = int(os.read(reported, 20))
while not proc.find(orphan).ended:
    time.sleep(0.001)
reaper = Reaper(frozenset)
assert reaper.sweep() == []
assert reaper.sweep() == [orphan]
assert proc.find(orphan) is None
"""


def zombie() -> int:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 0"], {})
    while not (process := proc.find(pid)) or not process.ended:
        pass
    return pid


def test_a_zombie_is_reaped_when_it_was_seen_twice() -> None:
    pid = zombie()
    reaper = Reaper(frozenset)
    assert pid not in reaper.sweep()
    assert pid in reaper.sweep()
    assert proc.find(pid) is None


def test_a_child_that_is_waited_for_is_not_reaped() -> None:
    pid = zombie()
    reaper = Reaper(lambda: {pid})
    assert not any(pid in reaper.sweep() for _ in range(3))
    assert os.waitpid(pid, 0) == (pid, 0)


def test_a_zombie_that_was_known_in_the_first_sweep_gets_its_two() -> None:
    pid = zombie()
    known = {pid}
    reaper = Reaper(lambda: known)
    reaper.sweep()
    known.clear()
    assert pid not in reaper.sweep()
    assert pid in reaper.sweep()


async def test_asyncios_own_children_keep_their_exit_codes() -> None:
    for code in range(5):
        child = await asyncio.create_subprocess_exec("sh", "-c", f"exit {code}")
        reaper = Reaper(frozenset({child.pid}).copy)
        while child.returncode is None:
            reaper.sweep()
            await asyncio.sleep(0)
        assert child.returncode == code


def test_orphans_are_adopted_and_reaped() -> None:
    # The subreaper must get its number from outside: its orphan waits until it has become its parent.
    shell = ["sh", "-c", 'ME=$$ exec "$0" -c "$1"', executable, ADOPTED]
    subprocess.run(shell, check=True, timeout=30 * SLOWNESS)
