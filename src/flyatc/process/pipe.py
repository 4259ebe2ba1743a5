"""The pipe on which we hear a child: our end of it is read, and closed, by us alone.

Not by ``loop.connect_read_pipe``: uvloop closes such a descriptor twice, in libuv and by its file object, and counts
on EBADF. Between the two, one of our threads may have been given the same number: then its file is closed, be it a
database, or a visitor's connection.
"""

import asyncio
import os


class Pipe:
    def __init__(self) -> None:
        """Raises OSError. ``theirs`` is the end for the child; the caller closes it."""
        ours, self.theirs = os.pipe()
        os.set_blocking(ours, False)
        self._ours: int | None = ours
        self._news = asyncio.Event()

    async def read(self, most: int) -> bytes:
        """What has come, as soon as something has; nothing at the end of the stream, or when it was closed. For one
        reader."""
        while self._ours is not None:
            try:
                return os.read(self._ours, most)
            except BlockingIOError:
                await self._readable(self._ours)
        return b""

    async def _readable(self, ours: int) -> None:
        loop = asyncio.get_running_loop()
        self._news.clear()
        loop.add_reader(ours, self._news.set)
        try:
            await self._news.wait()
        finally:
            if self._ours is not None:
                loop.remove_reader(ours)

    def close(self) -> None:
        """May be called more than once. What nobody has read is lost."""
        ours, self._ours = self._ours, None
        if ours is not None:
            asyncio.get_running_loop().remove_reader(ours)
            os.close(ours)
            self._news.set()
