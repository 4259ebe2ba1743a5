"""A storm of users whom nobody knows: GET /s1/, /s2/ … at a fixed rate, whatever becomes of them.

strangers.py PORT RATE SECONDS FIRST: tells as JSON how many were asked for, what was answered (by status; 0: nothing,
within five seconds after the end), and what the storm itself cost in CPU seconds. Connections are kept alive and used
again by whoever comes next, as Fly Proxy does; there are as many as are waiting at the same time.
"""

import asyncio
import json
import sys
from collections import Counter
from time import process_time
from typing import cast

import uvloop

TICK = 0.001  # seconds
LAST = 5.0  # seconds, for answers which have not come
HEAD = (
    b"Host: bench.fly.dev\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/137.0.0.0 Safari/537.36\r\n"
    b"Accept: */*\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n"
)


class Visitor(asyncio.Protocol):
    def __init__(self, storm: "Storm") -> None:
        self._storm, self._waiting = storm, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, number: int) -> None:
        self._waiting = True
        self._transport.write(b"GET /s%d/ HTTP/1.1\r\n" % number + HEAD)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):  # the answers are short: one read, one answer
            self._waiting = False
            self._storm.answered[data[9:12].decode()] += 1
            self._storm.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting:
            self._storm.answered["0"] += 1
        elif self in self._storm.free:
            self._storm.free.remove(self)


class Storm:
    def __init__(self, port: int) -> None:
        self._port = port
        self.answered: Counter[str] = Counter()
        self.free: list[Visitor] = []
        self._coming: set[asyncio.Task[None]] = set()

    async def rage(self, rate: int, seconds: float, number: int) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        began, first, last = loop.time(), number, number + round(rate * seconds)
        while number < last:
            due = first + round((loop.time() - began) * rate)
            while number < min(due, last):
                self._ask(number)
                number += 1
            await asyncio.sleep(TICK)
        took, until = loop.time() - began, loop.time() + LAST
        while (late := last - first - self.answered.total()) and loop.time() < until:  # noqa: ASYNC110 - at the end
            await asyncio.sleep(TICK)
        told = dict(self.answered) | ({"0": self.answered["0"] + late} if late else {})
        return {"asked": last - first, "seconds": took, "answered": told, "cpu": process_time()}

    def _ask(self, number: int) -> None:
        if self.free:
            return self.free.pop().ask(number)
        task = asyncio.get_running_loop().create_task(self._come(number))
        self._coming.add(task)
        return task.add_done_callback(self._coming.discard)

    async def _come(self, number: int) -> None:
        try:
            _, visitor = await asyncio.get_running_loop().create_connection(
                lambda: Visitor(self), "127.0.0.1", self._port
            )
        except OSError:
            self.answered["0"] += 1
            return
        visitor.ask(number)


if __name__ == "__main__":
    port, rate, seconds, first = map(int, sys.argv[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(Storm(port).rage(rate, seconds, first))))
