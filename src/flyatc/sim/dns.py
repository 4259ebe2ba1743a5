"""Simulated private DNS server, over UDP and TCP. The only module of the simulator that uses dnspython."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset

from flyatc.sim.dns_records import NOTHING, Found

TTL = 5  # s; from the example in Fly's docs
LARGEST_UDP = 512  # bytes, unless the query allows more (RFC 1035 §2.3.4; RFC 6891)
PATIENCE = 10.0  # s, for the next query over TCP
FAULTS = ("", "silent", "servfail", "nxdomain")


class DnsServer:
    """DNS server. ``look_up`` returns the records of a name; ``log`` is called with a line for each query."""

    def __init__(self, look_up: Callable[[str], Found], log: Callable[[str], None]) -> None:
        self._look_up, self._log = look_up, log
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self.fault = ""  # one of FAULTS: the behaviour for all queries

    async def open(self, host: str, port: int) -> int:
        """Listen on UDP and TCP; return the port of both. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve, host, port)
        port = int(self._tcp.sockets[0].getsockname()[1])
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), (host, port))
        return port

    def close(self) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()

    def answer(self, data: bytes, *, limit: int = 65535) -> bytes | None:
        """Return the response to a query, or None to send nothing. ``limit``: bytes; 0: as the query allows."""
        try:
            query = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError):
            return None
        if query.flags & dns.flags.QR:
            return None
        if self.fault == "silent":
            self._log("dns  a query, and no response: the simulator is set to be silent")
            return None
        limit = limit or max(LARGEST_UDP, query.payload)
        with contextlib.suppress(dns.exception.TooBig):
            return self._response(query).to_wire(max_size=limit)
        short = dns.message.make_response(query)
        short.flags |= dns.flags.TC
        return short.to_wire()

    def _response(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        if self.fault == "servfail" or len(query.question) != 1 or query.opcode() != dns.opcode.QUERY:
            response.set_rcode(dns.rcode.SERVFAIL if self.fault else dns.rcode.NOTIMP)
            return response
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        found = NOTHING if self.fault == "nxdomain" else self._look_up(name)
        kind = dns.rdatatype.to_text(question.rdtype)
        records = found.records if kind == found.kind else ()
        response.flags |= dns.flags.AA
        if not found.exists:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif records:
            texts = [_quoted(one) if kind == "TXT" else one for one in records]
            response.answer.append(dns.rrset.from_text(question.name, TTL, "IN", kind, *texts))
        self._log(f"dns {kind} {name}  {dns.rcode.to_text(response.rcode())} {' '.join(records)}".rstrip())
        return response

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a TCP connection: each message follows its length in two bytes (RFC 1035 §4.2.2)."""
        with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError, OSError):
            while True:
                async with asyncio.timeout(PATIENCE):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    data = self.answer(await reader.readexactly(length))
                if data is None:
                    break
                writer.write(len(data).to_bytes(2, "big") + data)
                await writer.drain()
        writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        answer = self._server.answer(data, limit=0)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, address)


def _quoted(text: str) -> str:
    """Split into character-strings of at most 255 bytes (RFC 1035 §3.3.14)."""
    return " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))
