"""The rows app: appends numbered rows to a database in WAL mode, and tells of each in a log of its own. Standard
library only.

POST …/append with JSON {"client": name, "number": n} inserts a row, commits it with synchronous=FULL, writes a line to
$ROWS_LOG, answers with the same line: {"life", "machine", "tenant", "client", "number", "committed"}. ``life`` is one
run of this process; ``committed`` is CLOCK_MONOTONIC, the same for all processes of this kernel. GET …/up answers 200.

It also writes by itself, where it is asked to; such rows have a client of OWN and stand in the log as all others:

- ROWS_WRITER: a second process inserts ten rows a second: "child" in the app's session, "session" in one of its own,
  "daemon" forked twice, with SIGTERM ignored. It goes on until it is killed.
- ROWS_CHECKPOINT: this mode of wal_checkpoint every second, as some frameworks do.
- ROWS_BURST: after so many seconds, again and again, BURST_SECONDS of transactions which change BURST_ROWS large rows.
"""

import contextlib
import itertools
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
OWN = "own "  # begins the client's name of rows which no client has asked for
BURST_SECONDS, BURST_ROWS, LARGE, BALLAST = 1.5, 10, 2000, 400  # the ballast stays small: it is written again and again
ONE_AT_A_TIME = threading.Lock()
OVER = threading.Event()
LOG = os.open(os.environ["ROWS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def opened() -> sqlite3.Connection:
    database = sqlite3.connect(os.environ["DATABASE_PATH"], isolation_level=None, check_same_thread=False, timeout=10)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS rows (client TEXT, number INTEGER, PRIMARY KEY (client, number))")
    database.execute("CREATE TABLE IF NOT EXISTS ballast (id INTEGER PRIMARY KEY, large BLOB)")
    return database


def append(database: sqlite3.Connection, client: str, number: int) -> bytes:
    with ONE_AT_A_TIME:
        database.execute("INSERT INTO rows VALUES (?, ?)", (client, number))
        return note(client, number, time.monotonic())


def note(client: str, number: int, committed: float) -> bytes:
    reported = {"life": LIFE, "machine": MACHINE, "tenant": TENANT, "client": client, "number": number}
    line = json.dumps({**reported, "committed": committed}).encode()
    os.write(LOG, line + b"\n")
    return line


class Visit(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(b"up")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(append(DATABASE, str(asked["client"]), int(asked["number"])))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """The log is ours."""


def write_on(how: str) -> None:
    """A process which inserts rows until it is killed. To be called before there are threads."""
    if os.fork():
        return
    if how != "child":
        os.setsid()
    if how == "daemon":
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    database = opened()
    client = f"{OWN}writer {LIFE[:8]}"
    for number in itertools.count():
        with contextlib.suppress(sqlite3.OperationalError):  # the database is busy
            append(database, client, number)
        time.sleep(0.1)  # noqa: TID251 - its rate


def checkpoint(mode: str) -> None:
    database = opened()
    while not OVER.wait(1.0):
        with contextlib.suppress(sqlite3.OperationalError):
            database.execute(f"PRAGMA wal_checkpoint({mode})")
    database.close()


def burst(every: float) -> None:
    """Each transaction is reported by one row."""
    database = opened()
    numbers = itertools.count()
    while not OVER.wait(every):
        end = time.monotonic() + BURST_SECONDS
        while time.monotonic() < end and not OVER.is_set():
            with contextlib.suppress(sqlite3.OperationalError):
                change(database, f"{OWN}burst {LIFE[:8]}", next(numbers))
            time.sleep(0.01)  # noqa: TID251 - its rate
    database.close()


def change(database: sqlite3.Connection, client: str, number: int) -> None:
    with ONE_AT_A_TIME:
        database.execute("BEGIN IMMEDIATE")
        try:
            for row in range(BURST_ROWS):
                place = (number * BURST_ROWS + row) % BALLAST
                database.execute("INSERT OR REPLACE INTO ballast VALUES (?, randomblob(?))", (place, LARGE))
            database.execute("INSERT INTO rows VALUES (?, ?)", (client, number))
            database.execute("COMMIT")
        except sqlite3.OperationalError:
            database.execute("ROLLBACK")
            raise
        note(client, number, time.monotonic())


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Visit)
    server.daemon_threads = True
    threads = []
    if mode := os.environ.get("ROWS_CHECKPOINT"):
        threads.append(threading.Thread(target=checkpoint, args=(mode,)))
    if every := float(os.environ.get("ROWS_BURST") or 0):
        threads.append(threading.Thread(target=burst, args=(every,)))
    for thread in threads:
        thread.start()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)
    OVER.set()
    for thread in threads:
        thread.join()
    with ONE_AT_A_TIME:
        DATABASE.close()


if __name__ == "__main__":
    if writer := os.environ.get("ROWS_WRITER"):
        write_on(writer)
    DATABASE = opened()
    main()
