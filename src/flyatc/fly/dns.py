"""Questions to a DNS server. The only module which knows dnspython; it is imported with the first question."""

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from flyatc.config.schema import Listen
from flyatc.fly.errors import NoRecords, NoSuchName, ServerFailed, TimedOut
from flyatc.kit.errors import FlyatcError

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

SECONDS = 2.0  # for a question, with all its tries
TRY = 0.8  # seconds; UDP loses packets
AWAY = 2.0  # seconds; a server which does not answer is left alone


class Dns:
    """``server``: with a host; None: those of /etc/resolv.conf. All names are whole ones, nothing is searched for.

    While it does not answer, one who asks waits for it now and then; all others are told so at once."""

    def __init__(self, server: Listen | None) -> None:
        self._server = server
        self._resolver: Resolver | None = None
        self._away_until = 0.0  # 0: it answers

    async def addresses(self, name: str) -> list[str]:
        """AAAA. Raises errors.Absent, errors.Unanswered; so do the others."""
        return [record.address for record in await self._ask(name, "AAAA")]

    async def texts(self, name: str) -> list[str]:
        """TXT: one text a record, put together from its parts."""
        return [b"".join(record.strings).decode("latin-1") for record in await self._ask(name, "TXT")]

    async def pointer(self, address: str) -> str:
        """PTR of an IPv6 address."""
        import dns.reversename

        (record, *_) = await self._ask(dns.reversename.from_address(address).to_text(), "PTR")
        return str(record.target)

    async def _ask(self, name: str, kind: str) -> list[Any]:
        now = asyncio.get_running_loop().time()
        if now < self._away_until:
            raise TimedOut(f"{name}: the DNS server does not answer")
        if self._away_until:
            self._away_until = now + SECONDS + AWAY  # we try it
        try:
            found = await self._answer(name, kind)
        except TimedOut:
            self._away_until = asyncio.get_running_loop().time() + AWAY
            raise
        except FlyatcError:
            self._away_until = 0.0
            raise
        self._away_until = 0.0
        return found

    async def _answer(self, name: str, kind: str) -> list[Any]:
        if self._resolver is None:  # which takes a while, the first time
            await asyncio.to_thread(importlib.import_module, "dns.asyncresolver")
        import dns.exception
        import dns.resolver

        try:
            if self._resolver is None:
                self._resolver = self._made()
            return list(await self._resolver.resolve(f"{name.removesuffix('.')}.", kind, search=False))
        except dns.resolver.NXDOMAIN as error:
            raise NoSuchName(f"{name} does not exist (NXDOMAIN)") from error
        except dns.resolver.NoAnswer as error:
            raise NoRecords(f"{name} has no {kind}") from error
        except dns.exception.Timeout as error:
            raise TimedOut(f"{name}: no DNS server has answered within {SECONDS:g} s") from error
        except dns.resolver.NoResolverConfiguration as error:
            raise ServerFailed("no DNS server is named in /etc/resolv.conf: name one in fly.resolver") from error
        except (dns.exception.DNSException, OSError) as error:
            raise ServerFailed(f"{name}: {error}") from error

    def _made(self) -> "Resolver":
        import dns.asyncresolver

        server = self._server
        resolver = dns.asyncresolver.Resolver(configure=server is None)
        if server is not None:
            resolver.nameservers, resolver.port = [str(server.host)], server.port
        resolver.timeout, resolver.lifetime = TRY, SECONDS
        return resolver
