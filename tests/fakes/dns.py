"""A small DNS server, as Fly's private one: what is not in it does not exist. It writes down what it is asked."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.reversename
import dns.rrset


class DnsServer:
    """``records``: (name without its last dot, kind) → values. ``mute``: it answers nothing; ``failing``: SERVFAIL."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.mute = self.failing = False
        self.aliases: dict[str, str] = {}  # CNAME, reported with what it leads to
        self.asked: list[tuple[str, str]] = []
        self.askers: list[tuple[str, int]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="a DNS server")

    def add(self, name: str, kind: str, *values: str) -> None:
        self.records[name, kind] = list(values)

    def add_pointer(self, address: str, name: str) -> None:
        self.add(dns.reversename.from_address(address).to_text().removesuffix("."), "PTR", name)

    @contextlib.contextmanager
    def serving(self) -> Iterator["DnsServer"]:
        self._thread.start()
        try:
            yield self
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", self.port))
            self._thread.join()
            self._socket.close()

    def _serve(self) -> None:
        while True:
            data, sender = self._socket.recvfrom(65536)
            if not data:
                return
            query = dns.message.from_wire(data)
            (question,) = query.question
            name, kind = question.name.to_text().removesuffix(".").lower(), dns.rdatatype.to_text(question.rdtype)
            self.asked.append((name, kind))
            self.askers.append(sender)
            if not self.mute:
                self._socket.sendto(self._answer(query, name, kind).to_wire(), sender)

    def _answer(self, query: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        if self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name in self.aliases:
            target = self.aliases[name]
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 5, "IN", "CNAME", f"{target}."))
            answer.answer.append(dns.rrset.from_text(f"{target}.", 5, "IN", kind, *self.records[target, kind]))
        elif (name, kind) in self.records:
            values = self.records[name, kind]
            texts = [f'"{value}"' for value in values] if kind == "TXT" else values
            answer.answer.append(dns.rrset.from_text_list(query.question[0].name, 5, "IN", kind, texts))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
