"""The parrot: an app that says what it is told to, byte for byte, and tells the raw bytes that it was sent.

Listens on 127.0.0.1:$PORT, one thread a connection. The last segment of the path decides:

  /say?hex=…&hex=…   sends these bytes, one part after the other; pause=0.1 between them; close=1: and closes then;
                     deaf=1: does not read the request's body; shut=1: ends its own side, and counts in /tally the
                     octets that it "heard" until the other side ended; silent for /say without hex
  /seen              JSON: head, body (raw, with its framing) as latin-1, connection (its number), request (its number
                     on the connection)
  /mortal            answers; then closes the connection, without an answer, when the next request has come
  /tally             JSON: how many requests came to each last segment so far
  /hold              reads the head, answers nothing, and counts in /tally as "left" when the other side has closed
  /drink?rate=…      reads the body at so many bytes a second (0: none at all for 30 s), then tells its length
  /pour?mb=…         so many megabytes with a Content-Length, as fast as they are taken
"""

import json
import os
import socket
import threading
import time
from collections import Counter
from urllib.parse import parse_qs

tally: Counter[str] = Counter()
connections = 0


def serve(conn: socket.socket, number: int) -> None:
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    held, count, mortal = b"", 0, False
    with conn:
        while True:
            while b"\r\n\r\n" not in held:
                more = conn.recv(65536)
                if not more:
                    return
                held += more
            head, _, held = held.partition(b"\r\n\r\n")
            count += 1
            path, _, query = head.split(b" ")[1].decode("latin-1").partition("?")
            what, asked = path.rpartition("/")[2], parse_qs(query)
            tally[what] += 1
            if mortal:
                return
            if what == "say":
                if "deaf" not in asked:
                    _, held = body(conn, head, held)
                say(conn, asked)
                if "shut" in asked:
                    conn.shutdown(socket.SHUT_WR)
                    while heard := conn.recv(65536):
                        tally["heard"] += len(heard)
                    return
                if "close" in asked:
                    return
            elif what == "hold":
                while conn.recv(65536):
                    pass
                tally["left"] += 1
                return
            elif what == "pour":
                pour(conn, int(asked["mb"][0]))
            elif what == "drink":
                tell(conn, {"length": drink(conn, head, held, float(asked["rate"][0]))})
                held = b""
            elif what == "tally":
                tell(conn, tally)
            else:
                sent, held = body(conn, head, held)
                mortal = what == "mortal"
                seen = {"head": head.decode("latin-1"), "body": sent.decode("latin-1")}
                tell(conn, {**seen, "connection": number, "request": count})


def tell(conn: socket.socket, value: object) -> None:
    data = json.dumps(value).encode()
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)


def say(conn: socket.socket, asked: dict[str, list[str]]) -> None:
    for part in asked.get("hex", []):
        conn.sendall(bytes.fromhex(part))
        time.sleep(float(asked.get("pause", ["0"])[0]))  # noqa: TID251 - slowness is what is asked for


def pour(conn: socket.socket, megabytes: int) -> None:
    block = bytes(1 << 20)
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (megabytes << 20))
    for _ in range(megabytes):
        conn.sendall(block)


def field(head: bytes, name: bytes) -> bytes:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return next((value.strip() for key, _, value in lines if key.lower() == name), b"")


def body(conn: socket.socket, head: bytes, held: bytes) -> tuple[bytes, bytes]:
    """The raw body, and what follows it."""
    if field(head, b"transfer-encoding"):
        while not (held.startswith(b"0\r\n") or b"\r\n0\r\n" in held) or not held.endswith(b"\r\n\r\n"):
            more = conn.recv(65536)
            if not more:
                return held, b""
            held += more
        return held, b""
    length = int(field(head, b"content-length") or 0)
    while len(held) < length and (more := conn.recv(65536)):
        held += more
    return held[:length], held[length:]


def drink(conn: socket.socket, head: bytes, held: bytes, rate: float) -> int:
    wanted, got = int(field(head, b"content-length")), len(held)
    if not rate:
        time.sleep(30)  # noqa: TID251 - slowness is what is asked for
    while got < wanted:
        piece = conn.recv(min(1 << 20, max(1, int(rate / 20))))
        if not piece:
            break
        got += len(piece)
        time.sleep(len(piece) / rate)  # noqa: TID251 - slowness is what is asked for
    return got


def guarded(conn: socket.socket, number: int) -> None:
    try:
        serve(conn, number)
    except OSError:  # the other side left
        pass


if __name__ == "__main__":
    server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=512)
    while True:
        accepted, _ = server.accept()
        connections += 1
        threading.Thread(target=guarded, args=(accepted, connections), daemon=True).start()
