"""The parrot: an app that sends exactly the bytes that the path asks for, and tells the raw bytes that it was sent.

Listens on 127.0.0.1:$PORT, one thread a connection. The last segment of the path decides:

  /say?hex=…&hex=…   sends these bytes, one part after the other; pause=0.1 between them; close=1: and closes then;
                     deaf=1: does not read the request's body; shut=1: ends its own side, and counts in /tally the
                     octets that it "heard" until the other side ended; silent for /say without hex
  /index.html        as /say
  /seen              JSON: head, body (raw, with its framing) as latin-1, connection (its number), request (its number
                     on the connection)
  /mortal            answers; then closes the connection, without an answer, when the next request has come
  /tally             JSON: how many requests came to each last segment so far
  /hold              reads the head, answers nothing, and counts in /tally as "left" when the other side has closed
  /drink?rate=…      reads the body at so many bytes a second (0: none at all for 30 s), then tells its length
  /clock?n=…&pause=… so many events (text/event-stream, chunked) with the time of their sending
  /pour?mb=…         so many megabytes with a Content-Length, as fast as they are taken
  /write?mb=…        so many megabytes of a page; public=1: that may be cached
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections import Counter
from urllib.parse import parse_qs

tally: Counter[str] = Counter()
connections = 0


class Line:
    """One connection. ``held``: what came and was not yet used."""

    def __init__(self, conn: socket.socket, number: int) -> None:
        self.conn, self.number, self.held, self.count, self.mortal = conn, number, b"", 0, False
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self) -> None:
        with self.conn:
            while (head := self.head()) and not self.mortal and self.answer(head):
                pass

    def head(self) -> bytes:
        while b"\r\n\r\n" not in self.held:
            more = self.conn.recv(65536)
            if not more:
                return b""
            self.held += more
        head, _, self.held = self.held.partition(b"\r\n\r\n")
        self.count += 1
        tally[head.split(b" ")[1].decode("latin-1").partition("?")[0].rpartition("/")[2]] += 1
        return head

    def answer(self, head: bytes) -> bool:
        """Return whether the connection goes on."""
        path, _, query = head.split(b" ")[1].decode("latin-1").partition("?")
        asked = parse_qs(query)
        match path.rpartition("/")[2]:
            case "say" | "index.html":
                return self.say(head, asked)
            case "hold":
                self.listen("left", 1)
                return False
            case "clock":
                self.clock(int(asked["n"][0]), float(asked["pause"][0]))
            case "pour":
                self.pour(int(asked["mb"][0]))
            case "write":
                self.write(int(asked["mb"][0]), public="public" in asked)
            case "drink":
                self.tell({"length": self.drink(head, float(asked["rate"][0]))})
            case "tally":
                self.tell(tally)
            case other:
                self.mortal = other == "mortal"
                seen = {"head": head.decode("latin-1"), "body": self.body(head).decode("latin-1")}
                self.tell({**seen, "connection": self.number, "request": self.count})
        return True

    def tell(self, value: object) -> None:
        data = json.dumps(value).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data)
        self.conn.sendall(head + data)

    def say(self, head: bytes, asked: dict[str, list[str]]) -> bool:
        if "deaf" not in asked:
            self.body(head)
        for part in asked.get("hex", []):
            self.conn.sendall(bytes.fromhex(part))
            time.sleep(float(asked.get("pause", ["0"])[0]))  # noqa: TID251 - slowness is what is asked for
        if "shut" in asked:
            self.conn.shutdown(socket.SHUT_WR)
            self.listen("heard", 0)
        return not {"shut", "close"} & set(asked)

    def listen(self, name: str, more: int) -> None:
        """Until the other side ends; counts what it heard, and ``more``."""
        while heard := self.conn.recv(65536):
            more += len(heard)
        tally[name] += more

    def clock(self, number: int, pause: float) -> None:
        self.conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(number):
            event = b"data: %f\n\n" % time.time()
            self.conn.sendall(b"%x\r\n%b\r\n" % (len(event), event))
            time.sleep(pause)  # noqa: TID251 - slowness is what is asked for
        self.conn.sendall(b"0\r\n\r\n")

    def pour(self, megabytes: int) -> None:
        block = bytes(1 << 20)
        self.conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (megabytes << 20))
        for _ in range(megabytes):
            self.conn.sendall(block)

    def write(self, megabytes: int, *, public: bool) -> None:
        block = b"".join(b"<p>paragraph %07d</p>" % n for n in range(1 << 15))[: 1 << 19] * 2
        more = b"Cache-Control: public, max-age=60\r\n" if public else b""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n%b\r\n"
        self.conn.sendall(head % (megabytes << 20, more))
        for _ in range(megabytes):
            self.conn.sendall(block)

    def body(self, head: bytes) -> bytes:
        """The raw body, with its framing."""
        if field(head, b"transfer-encoding"):
            whole = re.compile(rb"(?:.*\r\n)?0\r\n(?:[^\r\n]+\r\n)*\r\n", re.DOTALL)
            while not whole.fullmatch(self.held):
                self.more()
            found, self.held = self.held, b""
            return found
        length = int(field(head, b"content-length") or 0)
        while len(self.held) < length:
            self.more()
        found, self.held = self.held[:length], self.held[length:]
        return found

    def more(self) -> None:
        data = self.conn.recv(65536)
        if not data:
            raise ConnectionError("the sender left")
        self.held += data

    def drink(self, head: bytes, rate: float) -> int:
        wanted, got, self.held = int(field(head, b"content-length")), len(self.held), b""
        if not rate:
            time.sleep(30)  # noqa: TID251 - slowness is what is asked for
        while got < wanted and (piece := self.conn.recv(min(1 << 20, max(1, int(rate / 20))))):
            got += len(piece)
            time.sleep(len(piece) / rate)  # noqa: TID251 - slowness is what is asked for
        return got


def field(head: bytes, name: bytes) -> bytes:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return next((value.strip() for key, _, value in lines if key.lower() == name), b"")


def guarded(conn: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # the other side left
        Line(conn, number).serve()


if __name__ == "__main__":
    server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=512)
    while True:
        accepted, _ = server.accept()
        connections += 1
        threading.Thread(target=guarded, args=(accepted, connections), daemon=True).start()
