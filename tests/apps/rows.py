"""The rows app: appends numbered rows to a database in WAL mode, and tells of each in a log of its own. Standard
library only.

POST …/append with JSON {"client": name, "number": n} inserts a row, commits it with synchronous=FULL, writes a line to
$ROWS_LOG, answers with the same line: {"life", "machine", "tenant", "client", "number", "committed"}. ``life`` is one
run of this process; ``committed`` is CLOCK_MONOTONIC, the same for all processes of this kernel. GET …/up answers 200.
"""

import json
import os
import signal
import sqlite3
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LIFE = uuid.uuid4().hex
MACHINE, TENANT = os.environ["ROWS_MACHINE"], os.environ["ROWS_TENANT"]
ONE_AT_A_TIME = threading.Lock()
LOG = os.open(os.environ["ROWS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def opened() -> sqlite3.Connection:
    database = sqlite3.connect(os.environ["DATABASE_PATH"], isolation_level=None, check_same_thread=False, timeout=10)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS rows (client TEXT, number INTEGER, PRIMARY KEY (client, number))")
    return database


DATABASE = opened()


def append(client: str, number: int) -> bytes:
    with ONE_AT_A_TIME:
        DATABASE.execute("INSERT INTO rows VALUES (?, ?)", (client, number))
        committed = time.monotonic()
    told = {"life": LIFE, "machine": MACHINE, "tenant": TENANT, "client": client, "number": number}
    line = json.dumps({**told, "committed": committed}).encode()
    os.write(LOG, line + b"\n")
    return line


class Visit(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(b"up")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(append(str(asked["client"]), int(asked["number"])))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """The log is ours."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Visit)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)
    with ONE_AT_A_TIME:
        DATABASE.close()


if __name__ == "__main__":
    main()
