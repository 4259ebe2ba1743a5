"""A port of ours, from which one DNS server is asked: one packet a question, one for the answer."""

import asyncio
import secrets
import socket
from ipaddress import ip_address

from flyatc.fly import packet

SECONDS = 1.0  # for which new questions use it: who might want to answer in the server's place has to guess the port


class Door:
    """Open while somebody waits for an answer; a storm of questions shares it. To be asked at once when it was made."""

    def __init__(self, server: str, port: int) -> None:
        """Raises OSError; ValueError where ``server`` is no address."""
        kind = socket.AF_INET6 if ip_address(server).version == 6 else socket.AF_INET
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, tuple[bytes, asyncio.Future[bytes]]] = {}
        self._until = self._loop.time() + SECONDS
        self._socket = socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect((server, port))  # what others send is not heard
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._heard)

    def welcomes(self) -> bool:
        """Whether it is open, and may be used once more."""
        return bool(self._waiting) and self._loop.time() < self._until

    async def ask(self, name: str, patience: float) -> packet.Answer | None:
        """For its AAAA. None: that cannot be asked for in this way. Raises TimeoutError, OSError."""
        asked = packet.question(self._identity(), name)
        if asked is None:
            self._leave()
            return None
        answer: asyncio.Future[bytes] = self._loop.create_future()
        late = self._loop.call_later(patience, _fail, answer, TimeoutError())
        self._waiting[asked[:2]] = asked, answer
        try:
            self._socket.send(asked)
            return packet.Answer(name, asked, await answer)
        finally:
            late.cancel()
            del self._waiting[asked[:2]]
            self._leave()

    def _identity(self) -> bytes:
        while (found := secrets.token_bytes(2)) in self._waiting:
            pass
        return found

    def _heard(self) -> None:
        try:
            while True:
                data = self._socket.recv(65535)
                asked, answer = self._waiting.get(data[:2], (b"", None))
                if answer is not None and not answer.done() and packet.is_answer(data, asked):
                    answer.set_result(data)
        except BlockingIOError:
            return
        except OSError as error:  # such as: nobody listens there
            for _, answer in self._waiting.values():
                _fail(answer, error)

    def _leave(self) -> None:
        if not self._waiting:
            self._loop.remove_reader(self._socket)
            self._socket.close()


def _fail(answer: "asyncio.Future[bytes]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
