"""Async DNS queries. The only module that uses dnspython, imported with the first query.

The frequent AAAA queries, for users' machines, use our own codec in ``dns_answers``: one packet for the query, one for
the response, over a shared socket.
"""

import asyncio
import importlib
import itertools
import secrets
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from flyatc.config.schema_sections import Listen
from flyatc.fly import dns_answers
from flyatc.fly.dns_answers import NoRecords, NoSuchName, ServerFailed, TimedOut
from flyatc.kit.errors import FlyatcError

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

T = TypeVar("T")

TRIES = (0.8, 0.8, 0.4)  # seconds: UDP loses packets
SECONDS = sum(TRIES)  # for a query
LONGEST = 2 * SECONDS + 1.0  # for a whole lookup: our own packets, then dnspython's, possibly by TCP
AWAY = 2.0  # seconds without queries to a server that does not respond
_LATE = f"{{}}: no DNS server has answered within {SECONDS:g} s"


class Dns:
    """A DNS client. ``server``: with a host; None: those of /etc/resolv.conf. Names are absolute; no search domains.

    While the server does not respond, one query now and then tries it; all others fail at once."""

    def __init__(self, server: Listen | None) -> None:
        self._server = server
        self._resolver: Resolver | None = None
        self._sockets: dict[str, QuerySocket] = {}  # by the server's address
        self._away_until = 0.0  # 0: it responds

    def forget(self) -> None:
        """Forget that the server does not respond."""
        self._away_until = 0.0

    async def addresses(self, name: str) -> list[str]:
        """Return the AAAA records. Raises NoRecord, Unanswered, as do ``texts`` and ``pointer``."""
        return await self._unless_away(name, partial(self._addresses, name))

    async def _addresses(self, name: str) -> list[str]:
        resolver, late = await self._get_resolver(), OSError("there is no server to ask")
        servers = [str(server) for server in resolver.nameservers]
        for server, patience in zip(itertools.cycle(servers), TRIES, strict=False):
            try:
                response = await self._fast_query(server, resolver.port, name, patience)
            except OSError as error:
                late = error
                continue
            if response is not None and (found := response.addresses()) is not None:
                return found
            return [record.address for record in await self._look_up(name, "AAAA")]
        if isinstance(late, TimeoutError):
            raise TimedOut(_LATE.format(name))
        raise ServerFailed(f"{name}: {late}")

    async def _fast_query(
        self, server: str, port: int, name: str, patience: float
    ) -> dns_answers.AddressResponse | None:
        """Query with our own codec. None: dnspython is needed. Raises TimeoutError, OSError."""
        query_socket = self._sockets.get(server)
        if query_socket is None or not query_socket.reusable():
            try:
                query_socket = self._sockets[server] = QuerySocket(server, port)
            except ValueError:
                return None
        return await query_socket.ask(name, patience)

    async def texts(self, name: str) -> list[str]:
        """Return the TXT records, the parts of each joined."""
        return [b"".join(record.strings).decode("latin-1") for record in await self._ask(name, "TXT")]

    async def pointer(self, address: str) -> str:
        """Return the PTR of an IPv6 address."""
        import dns.reversename

        (record, *_) = await self._ask(dns.reversename.from_address(address).to_text(), "PTR")
        return str(record.target)

    async def _ask(self, name: str, kind: str) -> list[Any]:
        return await self._unless_away(name, partial(self._look_up, name, kind))

    async def _unless_away(self, name: str, ask: Callable[[], Awaitable[list[T]]]) -> list[T]:
        """Return the result of ``ask``; raise TimedOut at once if the server has just not responded."""
        now = asyncio.get_running_loop().time()
        if now < self._away_until:
            raise TimedOut(f"{name}: the DNS server does not answer")
        if self._away_until:
            self._away_until = now + SECONDS + AWAY  # this query tries it
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
        resolver = await self._get_resolver()
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

    async def _get_resolver(self) -> "Resolver":
        """Return the resolver, made at the first call. Raises ServerFailed."""
        if self._resolver is None:
            await asyncio.to_thread(importlib.import_module, "dns.asyncresolver")  # slow the first time
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


SOCKET_SECONDS = 1.0  # for which new queries share a socket: a spoofed response has to guess the port


class QuerySocket:
    """A UDP socket for queries to one server, closed when none is pending. Concurrent queries share it.

    ``ask`` must be called at once after construction."""

    def __init__(self, server: str, port: int) -> None:
        """Raises OSError; ValueError if ``server`` is not an IP address."""
        kind = socket.AF_INET6 if ip_address(server).version == 6 else socket.AF_INET
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, tuple[bytes, asyncio.Future[bytes]]] = {}
        self._until = self._loop.time() + SOCKET_SECONDS
        self._socket = socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect((server, port))  # packets from other addresses are dropped
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._receive)

    def reusable(self) -> bool:
        """Return whether the socket is open and may carry another query."""
        return bool(self._waiting) and self._loop.time() < self._until

    async def ask(self, name: str, patience: float) -> dns_answers.AddressResponse | None:
        """Query the AAAA of ``name``. None: the name cannot be encoded here. Raises TimeoutError, OSError."""
        asked = dns_answers.question(self._identity(), name)
        if asked is None:
            self._close_if_unused()
            return None
        response: asyncio.Future[bytes] = self._loop.create_future()
        late = self._loop.call_later(patience, _fail, response, TimeoutError())
        self._waiting[asked[:2]] = asked, response
        try:
            self._socket.send(asked)
            return dns_answers.AddressResponse(name, asked, await response)
        finally:
            late.cancel()
            del self._waiting[asked[:2]]
            self._close_if_unused()

    def _identity(self) -> bytes:
        while (found := secrets.token_bytes(2)) in self._waiting:
            pass
        return found

    def _receive(self) -> None:
        try:
            while True:
                data = self._socket.recv(65535)
                asked, response = self._waiting.get(data[:2], (b"", None))
                if response is not None and not response.done() and dns_answers.is_response(data, asked):
                    response.set_result(data)
        except BlockingIOError:
            return
        except OSError as error:  # such as connection refused
            for _, response in self._waiting.values():
                _fail(response, error)

    def _close_if_unused(self) -> None:
        if not self._waiting:
            self._loop.remove_reader(self._socket)
            self._socket.close()


def _fail(response: "asyncio.Future[bytes]", error: Exception) -> None:
    if not response.done():
        response.set_exception(error)
