"""Questions to a DNS server. The only module which knows dnspython; it is imported with the first question.

Who has a user is asked for so often that the question is our own, one packet each: see ``fly.packet``.

A port of ours, from which one DNS server is asked: one packet a question, one for the answer.
"""

import asyncio
import importlib
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flyatc.config.schema_sections import Listen
from flyatc.fly import dns_answers
from flyatc.fly.dns_answers import NoRecords, NoSuchName, ServerFailed, TimedOut
from flyatc.kit.errors import FlyatcError

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver
import secrets
import socket
from ipaddress import ip_address

T = TypeVar("T")

TRIES = (0.8, 0.8, 0.4)  # seconds: UDP loses packets
SECONDS = sum(TRIES)  # for a question
LONGEST = 2 * SECONDS + 1.0  # for all of it: our own packets, then dnspython's, perhaps by TCP
AWAY = 2.0  # seconds; a server which does not answer is left alone
_LATE = f"{{}}: no DNS server has answered within {SECONDS:g} s"


class Dns:
    """``server``: with a host; None: those of /etc/resolv.conf. All names are whole ones, nothing is searched for.

    While it does not answer, one who asks waits for it now and then; all others are told so at once."""

    def __init__(self, server: Listen | None) -> None:
        self._server = server
        self._resolver: Resolver | None = None
        self._doors: dict[str, QuerySocket] = {}  # by the server's address
        self._away_until = 0.0  # 0: it answers

    def forget(self) -> None:
        """That the server does not answer."""
        self._away_until = 0.0

    async def addresses(self, name: str) -> list[str]:
        """AAAA. Raises errors.Absent, errors.Unanswered; so do the others."""
        return await self._unless_away(name, partial(self._addresses, name))

    async def _addresses(self, name: str) -> list[str]:
        resolver, late = await self._made(), OSError("there is no server to ask")
        servers = [str(server) for server in resolver.nameservers]
        for server, patience in zip(itertools.cycle(servers), TRIES, strict=False):
            try:
                answer = await self._quickly(server, resolver.port, name, patience)
            except OSError as error:
                late = error
                continue
            if answer is not None and (found := answer.addresses()) is not None:
                return found
            return [record.address for record in await self._look_up(name, "AAAA")]
        if isinstance(late, TimeoutError):
            raise TimedOut(_LATE.format(name))
        raise ServerFailed(f"{name}: {late}")

    async def _quickly(self, server: str, port: int, name: str, patience: float) -> dns_answers.AddressResponse | None:
        """None: dnspython knows the way. Raises TimeoutError, OSError."""
        door = self._doors.get(server)
        if door is None or not door.welcomes():
            try:
                door = self._doors[server] = QuerySocket(server, port)
            except ValueError:
                return None
        return await door.ask(name, patience)

    async def texts(self, name: str) -> list[str]:
        """TXT: one text a record, put together from its parts."""
        return [b"".join(record.strings).decode("latin-1") for record in await self._ask(name, "TXT")]

    async def pointer(self, address: str) -> str:
        """PTR of an IPv6 address."""
        import dns.reversename

        (record, *_) = await self._ask(dns.reversename.from_address(address).to_text(), "PTR")
        return str(record.target)

    async def _ask(self, name: str, kind: str) -> list[Any]:
        return await self._unless_away(name, partial(self._look_up, name, kind))

    async def _unless_away(self, name: str, ask: Callable[[], Awaitable[list[T]]]) -> list[T]:
        """Raises what ``ask`` raises; TimedOut at once where the server has just not answered."""
        now = asyncio.get_running_loop().time()
        if now < self._away_until:
            raise TimedOut(f"{name}: the DNS server does not answer")
        if self._away_until:
            self._away_until = now + SECONDS + AWAY  # we try it
        try:
            async with asyncio.timeout(LONGEST):
                found = await ask()
        except (TimedOut, TimeoutError) as error:
            self._away_until = asyncio.get_running_loop().time() + AWAY
            if isinstance(error, TimeoutError):
                raise TimedOut(_LATE.format(name)) from error
            raise
        except FlyatcError:
            self._away_until = 0.0
            raise
        self._away_until = 0.0
        return found

    async def _look_up(self, name: str, kind: str) -> list[Any]:
        resolver = await self._made()
        import dns.exception
        import dns.resolver

        try:
            return list(await resolver.resolve(f"{name.removesuffix('.')}.", kind, search=False))
        except dns.resolver.NXDOMAIN as error:
            raise NoSuchName(f"{name} does not exist (NXDOMAIN)") from error
        except dns.resolver.NoAnswer as error:
            raise NoRecords(f"{name} has no {kind}") from error
        except dns.exception.Timeout as error:
            raise TimedOut(_LATE.format(name)) from error
        except (dns.exception.DNSException, OSError) as error:
            raise ServerFailed(f"{name}: {error}") from error

    async def _made(self) -> "Resolver":
        """Raises ServerFailed."""
        if self._resolver is None:
            await asyncio.to_thread(importlib.import_module, "dns.asyncresolver")  # which takes a while, the first time
            self._resolver = self._make()
        return self._resolver

    def _make(self) -> "Resolver":
        import dns.asyncresolver
        import dns.resolver

        server = self._server
        try:
            resolver = dns.asyncresolver.Resolver(configure=server is None)
        except dns.resolver.NoResolverConfiguration as error:
            raise ServerFailed("no DNS server is named in /etc/resolv.conf: name one in fly.resolver") from error
        if server is not None:
            resolver.nameservers, resolver.port = [str(server.host)], server.port
        resolver.timeout, resolver.lifetime = TRIES[0], SECONDS
        return resolver


SOCKET_SECONDS = (
    1.0  # for which new questions use it: who might want to answer in the server's place has to guess the port
)


class QuerySocket:
    """Open while somebody waits for an answer; a storm of questions shares it. To be asked at once when it was made."""

    def __init__(self, server: str, port: int) -> None:
        """Raises OSError; ValueError where ``server`` is no address."""
        kind = socket.AF_INET6 if ip_address(server).version == 6 else socket.AF_INET
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, tuple[bytes, asyncio.Future[bytes]]] = {}
        self._until = self._loop.time() + SOCKET_SECONDS
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

    async def ask(self, name: str, patience: float) -> dns_answers.AddressResponse | None:
        """For its AAAA. None: that cannot be asked for in this way. Raises TimeoutError, OSError."""
        asked = dns_answers.question(self._identity(), name)
        if asked is None:
            self._leave()
            return None
        answer: asyncio.Future[bytes] = self._loop.create_future()
        late = self._loop.call_later(patience, _fail, answer, TimeoutError())
        self._waiting[asked[:2]] = asked, answer
        try:
            self._socket.send(asked)
            return dns_answers.AddressResponse(name, asked, await answer)
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
                if answer is not None and not answer.done() and dns_answers.is_response(data, asked):
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
