"""An app which takes uploads as fast as they come, and answers with their length. Listens on 127.0.0.1:$PORT."""

import os
import re
import socket
import threading

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"


def main() -> None:
    with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=[connection], daemon=True).start()


def serve(connection: socket.socket) -> None:
    """One request after the other, with a Content-Length or without a body."""
    room = memoryview(bytearray(1 << 20))
    with connection:
        while head := read_head(connection):
            start, _, early = head.partition(b"\r\n\r\n")
            found = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)", start)
            length = int(found[1]) if found else 0
            left = length - len(early)
            while left > 0 and (count := connection.recv_into(room, min(left, len(room)))):
                left -= count
            told = b"%d" % (length - left)
            connection.sendall(ANSWER % (len(told), told))


def read_head(connection: socket.socket) -> bytes:
    """It, with the first of what follows; b"" at the end."""
    head = b""
    while b"\r\n\r\n" not in head:
        if not (data := connection.recv(65536)):
            return b""
        head += data
    return head


if __name__ == "__main__":
    main()
