"""The pipe for a child's output."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from flyatc.kit import tasks
from flyatc.process.spawn import Pipe

Loops = Callable[[], asyncio.AbstractEventLoop]


def use_files(path: Path, over: threading.Event, troubles: list[OSError]) -> None:
    """As the threads of a store do: closing a descriptor of another owner breaks this."""
    path.write_bytes(b"mine")
    while not over.is_set():
        try:
            with path.open("rb") as file:
                os.fstat(file.fileno())
                file.read()
        except OSError as error:
            troubles.append(error)


async def hear(times: int) -> None:
    for number in range(times):
        pipe = Pipe()
        listening = tasks.start(pipe.read(100), "listen")
        await asyncio.sleep(0)
        os.write(pipe.theirs, b"word")
        assert await listening == b"word"
        if number % 2:  # half of them end by themselves, half are closed while someone listens
            os.close(pipe.theirs)
            assert await pipe.read(100) == b""
            pipe.close()
        else:
            listening = tasks.start(pipe.read(100), "listen")
            await asyncio.sleep(0)
            pipe.close()
            assert await listening == b""
            os.close(pipe.theirs)
        pipe.close()


@pytest.mark.parametrize("loops", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_pipes_come_and_go_and_no_other_file_is_closed(tmp_path: Path, loops: Loops) -> None:
    over, troubles = threading.Event(), list[OSError]()
    threads = [threading.Thread(target=use_files, args=(tmp_path / str(n), over, troubles)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        with asyncio.Runner(loop_factory=loops) as runner:
            runner.run(hear(300))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert troubles == []
