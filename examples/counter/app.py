"""A visit counter with one SQLite database: an app written for one customer, which knows nothing about flyatc.

It needs Python 3.11 and nothing else. Its settings come from the environment:

  PORT           where to listen, on 127.0.0.1
  PREFIX         the beginning of its paths, e.g. /bellevue/2025/winter; empty: the root
  DATABASE_PATH  the counter's file; default counter.sqlite3
  IDLE           seconds of idleness until it is stopped; only shown on the page
  SISTERS        paths of other counters, separated by spaces; only linked on the page

Try it alone:  PORT=8000 python3 app.py
"""

import html
import os
import signal
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from string import Template

PORT = int(os.environ.get("PORT", "8000"))
PREFIX = os.environ.get("PREFIX", "").rstrip("/")
DATABASE = os.environ.get("DATABASE_PATH", "counter.sqlite3")
IDLE = int(os.environ.get("IDLE", "20"))
SISTERS = os.environ.get("SISTERS", "").split()

STARTED = time.monotonic()
PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
COUNTED = "counted"  # a cookie for one page view: the button has counted already, its redirect must not count again


class Counter:
    """One row. Each visit is one short transaction of its own, so that a backup at any moment is a whole one."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA busy_timeout = 5000",
            "PRAGMA journal_mode = WAL",
            "CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), visits INTEGER NOT NULL)",
            "INSERT OR IGNORE INTO counter VALUES (1, 0)",
        ):
            self._db.execute(statement)

    def count(self) -> int:
        return self._ask("UPDATE counter SET visits = visits + 1 RETURNING visits")

    def visits(self) -> int:
        return self._ask("SELECT visits FROM counter")

    def close(self) -> None:
        """The last connection to close empties the write-ahead log into the database."""
        with self._lock:
            self._db.close()

    def _ask(self, statement: str) -> int:
        with self._lock:
            [(number,)] = self._db.execute(statement).fetchall()
            return int(number)


class Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        super().__init__(("127.0.0.1", PORT), Visit)


class Visit(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == f"{PREFIX}/up":
            self.answer(200, "text/plain", b"up\n")
        elif path in (PREFIX or "/", f"{PREFIX}/"):
            self.show()
        else:
            self.answer(404, "text/plain", b"There is nothing here.\n")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > 65536:
            self.close_connection = True  # a body left unread would be taken for the next request
            return self.answer(413, "text/plain", b"A short body of known length, please.\n")
        self.rfile.read(int(length))
        if self.path != f"{PREFIX}/hit":
            return self.answer(404, "text/plain", b"There is nothing here.\n")
        self.server.counter.count()
        self.answer(303, "text/plain", b"", {"Location": f"{PREFIX}/", **self.cookie(10)})

    def show(self) -> None:
        counted = f"{COUNTED}=1" in self.headers.get("Cookie", "")
        looks_only = counted or self.command == "HEAD"
        visits = self.server.counter.visits() if looks_only else self.server.counter.count()
        self.answer(200, "text/html; charset=utf-8", page(visits), self.cookie(0) if counted else {})

    def cookie(self, seconds: int) -> dict[str, str]:
        return {"Set-Cookie": f"{COUNTED}=1; Max-Age={seconds}; Path={PREFIX or '/'}; HttpOnly; SameSite=Lax"}

    def answer(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are logged by who stands in front."""


def page(visits: int) -> bytes:
    user, _, rest = PREFIX.strip("/").partition("/")
    return PAGE.substitute(
        user=html.escape(user or "counter"),
        rest=html.escape(spoken(rest)),
        prefix=html.escape(PREFIX, quote=True),
        visits=visits,
        visits_word="visit" if visits == 1 else "visits",
        flaps="".join(f"<span>{digit}</span>" for digit in f"{visits:04}"),
        places=max(4, len(str(visits))),
        up=duration(time.monotonic() - STARTED),
        pid=os.getpid(),
        idle=IDLE,
        idle_words=duration(IDLE),
        sisters="".join(map(sister, SISTERS)),
    ).encode()


def sister(address: str) -> str:
    address = address.rstrip("/")
    mark = ' aria-current="page"' if address == PREFIX else ""
    user, _, rest = address.strip("/").partition("/")
    names = f"<b>{html.escape(user)}</b><span>{html.escape(spoken(rest))}</span>"
    return f'<li><a href="{html.escape(address, quote=True)}/"{mark}>{names}</a></li>'


def spoken(name: str) -> str:
    return name.replace("-", " ").replace("/", " / ")


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes and not rest else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def main() -> None:
    counter = Counter(DATABASE)
    with Server(counter) as server:
        # shutdown() waits for serve_forever to return, which it cannot while a handler stands on its stack
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"counting visits on 127.0.0.1:{PORT}{PREFIX}", flush=True)
        server.serve_forever(poll_interval=0.05)
    counter.close()


if __name__ == "__main__":
    main()
