"""The smallest app there can be: it notes in $LISTENING when it listens, and answers everything with 200.

Its note is CLOCK_MONOTONIC in nanoseconds, which all processes of a machine share.
"""

import os
import socket
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


def main() -> None:
    server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    now = time.monotonic_ns()
    with open(os.environ["LISTENING"], "w") as note:  # noqa: PTH123 - pathlib would cost more than all the rest
        note.write(str(now))
    while True:
        visitor, _ = server.accept()
        if visitor.recv(65536):
            visitor.sendall(ANSWER)
        visitor.close()


if __name__ == "__main__":
    main()
