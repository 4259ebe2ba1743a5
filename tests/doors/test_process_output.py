"""A real pipe into our log: what waits, what is lost (nothing), and for how long."""

import asyncio
import io
import json
import os
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from fakes.waiting import eventually
from flyatc.observe.log import Log
from flyatc.process.output import BURST, ENVELOPE, RATE, Output
from slowness import SLOWNESS


@pytest.fixture
def written() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def log(written: io.BytesIO) -> Iterator[Log]:
    log = Log(written)
    yield log
    log.close()


def said(log: Log) -> list[str]:
    return [json.loads(entry[2])["msg"] for entry in log.journal.since(0)]


def write(pipe: int, data: bytes) -> None:
    with os.fdopen(pipe, "wb", 0) as file:
        while data:
            data = data[file.write(data) :]


async def test_a_flood_beyond_its_budget_waits_and_nothing_is_lost(log: Log, written: io.BytesIO) -> None:
    output = Output("u/a", log)
    line = b"a line\n"
    cost = len(line) - 1 + ENVELOPE
    count = (BURST + RATE) // cost  # the burst, and a second's worth more
    begun = monotonic()
    writer = threading.Thread(target=write, args=(output.open("stdout"), line * count))
    writer.start()
    assert await output.wait_drained(30)
    assert monotonic() - begun >= 0.9
    writer.join()
    await output.close()
    log.close()
    assert written.getvalue().count(b'"a line"') == count


async def test_output_waits_while_the_reader_of_the_log_is_behind() -> None:
    mouth = threading.Event()

    class Stuck(io.BytesIO):
        def write(self, data: object) -> int:
            mouth.wait()
            assert isinstance(data, memoryview)
            return len(data)

    log = Log(Stuck())
    output = Output("u/a", log)
    pipe = output.open("stdout")
    while not log.crowded:
        log.output("other", "stdout", "x" * 10_000)
    os.write(pipe, b"first\n")
    await eventually(lambda: "first" in output.last)  # it is read, and then it waits
    os.write(pipe, b"second\n")
    await asyncio.sleep(0.1)
    assert "second" not in output.last
    mouth.set()
    await eventually(lambda: "second" in output.last)
    os.close(pipe)
    await output.close()
    log.close()


async def test_two_streams_are_distinguished(log: Log) -> None:
    output = Output("u/a", log)
    for stream in ("stdout", "stderr"):
        pipe = output.open(stream)
        os.write(pipe, f"to {stream}".encode())
        os.close(pipe)
    await output.close()
    reported = [json.loads(entry[2]) for entry in log.journal.since(0)]
    assert {(t["tenant"], t["stream"], t["msg"]) for t in reported} == {
        ("u/a", "stdout", "to stdout"),
        ("u/a", "stderr", "to stderr"),
    }


async def test_a_pipe_that_stays_open_is_left_after_its_silence(log: Log) -> None:
    output = Output("u/a", log)
    pipe = output.open("stdout")
    os.write(pipe, b"before\nwithout an end")
    begun = monotonic()
    await output.close()
    assert monotonic() - begun < 5 * SLOWNESS
    assert said(log) == ["before", "without an end"]
    os.close(pipe)
