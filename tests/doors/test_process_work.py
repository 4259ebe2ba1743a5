"""Tests of what the work of real processes looks like: CPU time, and threads that sleep."""

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from flyatc.process import measure_work
from whole.daemon import eventually

PROGRAM = """
import sys, threading, time
print("ready", flush=True)
for line in sys.stdin:
    kind, seconds = line.split()
    def burn():
        until = time.process_time() + float(seconds)
        while time.process_time() < until:
            pass
    def doze():
        while True:
            time.sleep(float(seconds))
    target = {"burn": burn, "sleep": lambda: time.sleep(float(seconds)), "doze": doze,
              "wait": lambda: threading.Event().wait(float(seconds))}[kind]
    threading.Thread(target=target, daemon=True).start()
    print(kind, flush=True)
"""


@contextmanager
def app() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-I", "-S", "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str], what: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    process.stdout.readline()


def test_cpu_time_is_counted_for_each_process() -> None:
    with app() as process:
        before = measure_work.measure([process.pid, 1 << 22], 0, math.inf)
        ask(process, "burn 0.3")

        def used() -> float:
            ((key, cpu),) = measure_work.measure([process.pid], 0, math.inf).cpu.items()
            return cpu - before.cpu[key]

        eventually(lambda: used() >= 0.25, 10, "its CPU time")


def test_a_thread_that_sleeps_is_found_with_the_same_mark_until_it_wakes() -> None:
    with app() as process:
        began = measure_work.seconds_since_boot()
        ask(process, "sleep 3600")

        def look() -> dict[tuple[int, int], int]:
            return measure_work.measure([process.pid], began - 0.02, math.inf).asleep

        first = eventually(look, 10, "the thread")
        assert len(first) == 1, "the main thread waits for a line, not for a time"
        assert look() == first
        ask(process, "doze 0.01")
        second = eventually(lambda: len(found := look()) == 2 and found, 10, "the second")
        ((loop, mark),) = set(second.items()) - set(first.items())
        eventually(lambda: look().get(loop, mark) > mark, 10, "another mark of the one that woke")


def test_only_threads_that_began_at_the_time_asked_for_are_found() -> None:
    with app() as process:
        before = measure_work.seconds_since_boot()
        ask(process, "sleep 3600")
        eventually(lambda: measure_work.measure([process.pid], 0, math.inf).asleep, 10, "the thread")
        after = measure_work.seconds_since_boot()
        assert measure_work.measure([process.pid], 0, before - 0.02).asleep == {}, "it began later"
        assert measure_work.measure([process.pid], after + 0.02, math.inf).asleep == {}, "it began earlier"
        assert len(measure_work.measure([process.pid], before - 0.02, after + 0.02).asleep) == 1


def test_a_thread_that_waits_for_another_does_not_sleep() -> None:
    with app() as process:
        ask(process, "wait 3600")
        ask(process, "sleep 3600")
        eventually(lambda: measure_work.measure([process.pid], 0, math.inf).asleep, 10, "the one that sleeps")
        assert len(measure_work.measure([process.pid], 0, math.inf).asleep) == 1
