"""Questions to a DNS server. The only module which knows dnspython; it is imported with the first question.

Who has a user is asked for so often that the first try is our own, with one packet: see ``fly.packet``."""

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from flyatc.config.schema import Listen
from flyatc.fly import packet
from flyatc.fly.door import Door
from flyatc.fly.errors import NoRecords, NoSuchName, ServerFailed, TimedOut

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

SECONDS = 2.0  # for a question, with all its tries
TRY = 0.8  # seconds; UDP loses packets


class Dns:
    """``server``: with a host; None: those of /etc/resolv.conf. All names are whole ones, nothing is searched for."""

    def __init__(self, server: Listen | None) -> None:
        self._server = server
        self._resolver: Resolver | None = None
        self._door: Door | None = None

    async def addresses(self, name: str) -> list[str]:
        """AAAA. Raises errors.Absent, errors.Unanswered; so do the others."""
        seconds = SECONDS
        try:
            answer = await self._quickly(await self._made(), name)
            if answer is not None and (found := answer.addresses()) is not None:
                return found
        except (TimeoutError, OSError):
            seconds -= TRY
        return [record.address for record in await self._ask(name, "AAAA", seconds)]

    async def _quickly(self, resolver: "Resolver", name: str) -> packet.Answer | None:
        """From the first server. None: dnspython knows the way. Raises TimeoutError, OSError."""
        if self._door is None or not self._door.welcomes():
            try:
                self._door = Door(str(resolver.nameservers[0]), resolver.port)
            except (IndexError, ValueError):
                return None
        return await self._door.ask(name, TRY)

    async def texts(self, name: str) -> list[str]:
        """TXT: one text a record, put together from its parts."""
        return [b"".join(record.strings).decode("latin-1") for record in await self._ask(name, "TXT")]

    async def pointer(self, address: str) -> str:
        """PTR of an IPv6 address."""
        import dns.reversename

        (record, *_) = await self._ask(dns.reversename.from_address(address).to_text(), "PTR")
        return str(record.target)

    async def _ask(self, name: str, kind: str, seconds: float = SECONDS) -> list[Any]:
        resolver = await self._made()
        import dns.exception
        import dns.resolver

        try:
            text = f"{name.removesuffix('.')}."
            return list(await resolver.resolve(text, kind, search=False, lifetime=seconds))
        except dns.resolver.NXDOMAIN as error:
            raise NoSuchName(f"{name} does not exist (NXDOMAIN)") from error
        except dns.resolver.NoAnswer as error:
            raise NoRecords(f"{name} has no {kind}") from error
        except dns.exception.Timeout as error:
            raise TimedOut(f"{name}: no DNS server has answered within {SECONDS:g} s") from error
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
        resolver.timeout = TRY
        return resolver
