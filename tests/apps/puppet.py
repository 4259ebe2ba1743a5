"""The puppet: an app that answers what the visitor tells it to, so that replays can be played through.

Listens on 127.0.0.1:$PORT, one thread a connection. The header X-Script is JSON: the id of a machine → the header lines
that it shall answer with. "body" and "status" among them are what they say, and with "deaf" it reads no body. "failed"
stands for the receiver of a fly-replay-failed. Without lines for it:

  /echo      answers at once, and sends the body back as it comes
  upgrade    101, and all bytes back
  /vanish    closes without an answer
  /exit      ends the process with the code of the query
  else       JSON: machine, path, headers (lower case), body
"""

import contextlib
import io
import json
import os
import socket
import threading
from collections.abc import Iterator

MACHINE = os.environ["FLY_MACHINE_ID"]
OWN = ("body", "status", "deaf")


def serve(conn: socket.socket) -> None:
    with conn, contextlib.suppress(OSError), conn.makefile("rb") as reader:
        while line := reader.readline():
            path = line.decode("latin-1").split(" ")[1]
            headers: dict[str, str] = {}
            while (line := reader.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            if not answer(conn, reader, path, headers):
                return


def answer(conn: socket.socket, reader: io.BufferedReader, path: str, headers: dict[str, str]) -> bool:
    """Return whether the connection goes on."""
    script = json.loads(headers.get("x-script", "{}"))
    lines = script.get("failed" if "fly-replay-failed" in headers else MACHINE)
    if lines is not None:
        body = lines.get("body", "").encode()
        send(conn, lines.get("status", "200 OK"), {k: v for k, v in lines.items() if k not in OWN}, body)
        if "deaf" in lines:
            threading.Event().wait()
        conn.shutdown(socket.SHUT_WR)  # and the body is not needed for that
        while reader.read1(65536):
            pass
        return False
    if path == "/vanish":
        return False
    if path.startswith("/exit"):
        os._exit(int(path.partition("?")[2]))
    if "upgrade" in headers:
        conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        while data := reader.read1(65536):
            conn.sendall(data)
        return False
    if path == "/echo":
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces(reader, headers):
            conn.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        conn.sendall(b"0\r\n\r\n")
        return True
    body = b"".join(pieces(reader, headers))
    reported = {"machine": MACHINE, "path": path, "headers": headers, "body": body[:100].decode(), "length": len(body)}
    send(conn, "200 OK", {"Content-Type": "application/json"}, json.dumps(reported).encode())
    return True


def pieces(reader: io.BufferedReader, headers: dict[str, str]) -> Iterator[bytes]:
    if headers.get("transfer-encoding") == "chunked":
        while size := int(reader.readline(), 16):
            yield reader.read(size)
            reader.readline()
        reader.readline()
    elif length := int(headers.get("content-length", 0)):
        yield reader.read(length)


def send(conn: socket.socket, status: str, headers: dict[str, str], body: bytes) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    conn.sendall(f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)


if __name__ == "__main__":
    server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=64)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
