"""Asks an app in the background whether a stored answer is still good (RFC 5861 §3)."""

import asyncio
from time import time

from flyatc.delivery import sendfile
from flyatc.delivery.file_answer import Refused
from flyatc.delivery.recording import Recording
from flyatc.edge import desk, files, gateway
from flyatc.kit import tasks
from flyatc.wire import client, head

MOST_SECONDS = 60.0


class Refresh:
    """The app's asker (wire.client.Client); what it says goes to nobody but the recording."""

    def __init__(
        self, recording: Recording, through: gateway.Gateway, at: desk.Desk, method: bytes, app_head: bytes
    ) -> None:
        self._recording, self._gateway, self._desk = recording, through, at
        self._method, self._head = method, app_head
        self._app: client.AppConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def begin(self) -> None:
        tasks.start(self._dial(), "refresh")

    async def _dial(self) -> None:
        try:
            connection = self._gateway.idle(repeatable=True) or await self._gateway.dial()
        except (OSError, TimeoutError):
            return self._end(failed=True)
        if not connection.alive:
            return self._end(failed=True)
        self._app = connection
        self._timer = asyncio.get_running_loop().call_later(MOST_SECONDS, self.answer_failed, "it takes too long")
        return connection.ask(self, self._method, self._head)

    def interim(self, answer: head.AnswerHead) -> None:
        """Nobody waits for it."""

    def answer(self, answer: head.AnswerHead, body: bytes, complete: bool) -> None:
        named = not answer.noted.keys().isdisjoint(sendfile.FROM_APPS)
        file = self._desk.sendfile.find(answer) if named and self._desk.sendfile is not None else None
        if named and file is None and answer.status != 304:
            return self._end(failed=True)  # switched off meanwhile: its body is not what it means
        if files.record(self._recording, answer, file) is not None:
            return self._end(reuse=complete, told=True)
        if file is not None:
            return self._take_file(file, reuse=complete)
        if body:
            self._recording.body(body)
        return self._end(reuse=True) if complete else None

    def _take_file(self, file: files.Named, *, reuse: bool) -> None:
        if isinstance(file, Refused):
            return self._end(reuse=reuse, told=True)
        file.close()
        return self._end(reuse=reuse)

    def answer_body(self, data: bytes) -> None:
        self._recording.body(data)

    def answer_end(self, trailers: list[bytes]) -> None:
        self._end(reuse=True)

    def answer_failed(self, reason: str) -> None:
        self._end(failed=True)

    def app_writable(self, ready: bool) -> None:
        """Nothing but a head is sent."""

    def _end(self, *, reuse: bool = False, told: bool = False, failed: bool = False) -> None:
        """``told``: the recording has ended by itself."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        app, self._app = self._app, None
        if app is not None:
            app.release(reuse=reuse)
        if failed:
            self._recording.fail(time())
        elif not told:
            self._recording.end()
