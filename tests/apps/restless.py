"""The restless app: every ugly state of an app, held for as long as a test needs it. Standard library only, and
one file however long it is: it is run by its path, from anywhere, and hundreds of times by the tests. So it must be up
at once: it imports what begins with an underscore in place of socket, threading, signal and sqlite3, which import enum,
re and collections, and parses its arguments itself: together they would take twice as long as all the rest.

It serves HTTP/1.1 on 127.0.0.1:$PORT, one thread a connection, with a parser of its own, so that it can also answer
what no decent server would. The *last segment* of the path decides, so everything works below any prefix:

  /up                        200 "up"
  /echo?env=NAME             JSON: method, path (raw, with query), query, headers (in order), length and sha256 of the
                             body, pid, arguments, directory, and the environment variables named by env=
  /add (POST), /count        insert a row and tell how many there are; JSON {"count": n}
  /grow?mb=1 (POST)          so many megabytes of noise into the database; JSON {"count": n} of the rows
  /slow?s=2                  answers after s seconds; ?hint=1: 103 at once
  /bytes?n=1000              a body of n bytes with a Content-Length
  /chunked?n=3&size=10&pause=0.1&trailers=1
  /sse?n=3&pause=0.1         text/event-stream of n events, chunked
  /close-delimited?n=1000    a body ended by the end of the connection
  /die-mid-answer            half of a body, then the whole process is gone
  /die?code=1                the process is gone before its first byte
  /status?code=404           that status with a short body
  /headers?set=Name:Value    sets response headers; may be repeated
  /early-hints               103, then 200
  /no-content, /not-modified 204, 304
  /upgrade                   WebSocket handshake, then every byte comes back as it is. ?frames=1: a real echo of
                             messages; ?refuse=1: 403. The first protocol that is offered is chosen
  /continue                  reads the body after "100 Continue" where it was asked for; ?early=417: answers that at
                             once, reads nothing and closes
  /upload?rate=100000        reads the body at so many bytes a second; JSON with length and sha256
  /bad-framing?kind=...      both, lengths, chunk, short, fold, status (see BAD_FRAMING)
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has none
import _socket
import _thread
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO, NoReturn

Headers = list[tuple[str, str]]

BAD_FRAMING = {
    "both": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nXYZ\r\nhello\r\n0\r\n\r\n",
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
    "fold": b"HTTP/1.1 200 OK\r\nX-Folded: one\r\n two\r\nContent-Length: 5\r\n\r\nhello",
    "status": b"HTTP/1.1 2x0 Fine\r\nContent-Length: 5\r\n\r\nhello",
}
REASONS = {200: "OK", 204: "No Content", 304: "Not Modified", 404: "Not Found", 503: "Service Unavailable"}


class Request:
    def __init__(self, reader: BinaryIO, conn: _socket.socket, line: str, headers: Headers) -> None:
        self.method, self.target, self.version = line.split(" ", 2)
        self.headers, self._reader, self.conn = headers, reader, conn
        self.path, _, self.query_string = self.target.partition("?")
        self.close = self.header("connection").lower() == "close" or self.version == "HTTP/1.0"
        self._continued = self._read = False

    @property
    def query(self) -> Headers:
        if not self.query_string:
            return []
        from urllib.parse import parse_qsl

        return parse_qsl(self.query_string, keep_blank_values=True)

    def asked(self, name: str, default: str) -> str:
        return next((v for k, v in self.query if k == name), default) if self.query_string else default

    def header(self, name: str) -> str:
        return next((v for k, v in self.headers if k.lower() == name), "")

    def body(self, size: int = 65536) -> Iterator[bytes]:
        """The body in pieces, once; asks for it first where the sender waits for 100 Continue."""
        if self._read:
            return
        if self.header("expect").lower() == "100-continue" and not self._continued:
            self._continued = True
            self.conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in self.header("transfer-encoding").lower():
            while length := int(self._reader.readline().split(b";")[0], 16):
                yield from self._exactly(length, size)
                self._reader.readline()
            while self._reader.readline() not in (b"\r\n", b"\n", b""):
                pass
        else:
            yield from self._exactly(int(self.header("content-length") or 0), size)
        self._read = True

    def _exactly(self, length: int, size: int) -> Iterator[bytes]:
        while length:
            piece = self._reader.read1(min(length, size))  # type: ignore[attr-defined]  # a BufferedReader
            if not piece:
                raise ConnectionError("the sender left")
            length -= len(piece)
            yield piece

    def digest(self, rate: float = 0) -> dict[str, Any]:
        import hashlib

        length, digest = 0, hashlib.sha256()
        for piece in self.body(max(1, min(65536, int(rate / 10))) if rate else 65536):
            length += len(piece)
            digest.update(piece)
            if rate:
                time.sleep(len(piece) / rate)  # noqa: TID251  # slowness is what is asked for
        return {"length": length, "sha256": digest.hexdigest()}

    def send(self, data: bytes) -> None:
        self.conn.sendall(data)

    def head(self, status: int, headers: Headers) -> None:
        if self.close:
            headers = [*headers, ("Connection", "close")]
        lines = "".join(f"{k}: {v}\r\n" for k, v in headers)
        self.send(f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n{lines}\r\n".encode("latin-1"))

    def answer(self, status: int, body: bytes, kind: str = "text/plain", *more: tuple[str, str]) -> None:
        for _ in self.body():  # what is left of the request would be taken for the next one
            pass
        lines = "".join(
            f"{k}: {v}\r\n"
            for k, v in [("Content-Type", kind), ("Content-Length", str(len(body))), *more]
            + ([("Connection", "close")] if self.close else [])
        )
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n{lines}\r\n".encode("latin-1")
        self.send(head if self.method == "HEAD" else head + body)

    def tell(self, value: object, status: int = 200) -> None:
        import json

        self.answer(status, json.dumps(value).encode(), "application/json")


def wait(seconds: float) -> None:
    if seconds > 0:
        time.sleep(seconds)  # noqa: TID251  # slowness is what is asked for


def say(text: str, stream: int = 1) -> None:
    """Past Python's buffers: a signal may come while they are in use, and then a flush of them fails."""
    os.write(stream, text.encode())


def leave(code: int) -> NoReturn:
    os._exit(code)  # from whichever thread, and without a word to anyone


# --- arguments ---


class Options:
    """Flags, each with its value:

    --host ADDRESS         where to listen
    --ready-after S        a slow boot: does nothing at all for S
    --bind-late S          boots at once, but listens S later
    --unwell-for S         answers 503 for S after it listens
    --mute-for S           what is asked in the first S is never answered
    --garbage              answers every connection with what is not HTTP
    --exit-at-once CODE    says why on stderr and exits before it listens
    --last-words TEXT      said on --exit-at-once, without a newline
    --die-after S          is gone with exit code 9 after S, without SIGTERM
    --ignore-term          ignores SIGTERM
    --slow-term S          takes S to end after SIGTERM
    --leave-wal            does not close its database when it ends
    --fork-child [WHERE]   a grandchild that ignores SIGTERM and holds the output: in the "same" process group, in
                           one of its own in the same session ("group"), or in a "session" of its own
    --child-holds-db       the grandchild holds the database open as well
    --chatter RATE         lines a second on stdout
    --flood                short lines on stdout as fast as they are taken
    --binary-output        all 256 bytes and broken UTF-8 on stdout
    --long-line N          one line of N bytes on stdout
    --db PATH              default: $DATABASE_PATH
    --lazy-db              makes its database with the first row, not when it starts
    """

    host: str = "127.0.0.1"
    ready_after: float = 0
    bind_late: float = 0
    unwell_for: float = 0
    mute_for: float = 0
    garbage: bool = False
    exit_at_once: int | None = None
    last_words: str = ""
    die_after: float | None = None
    ignore_term: bool = False
    slow_term: float = 0
    leave_wal: bool = False
    fork_child: str = ""
    child_holds_db: bool = False
    chatter: float = 0
    flood: bool = False
    binary_output: bool = False
    long_line: int = 0
    db: str | None = os.environ.get("DATABASE_PATH")
    lazy_db: bool = False

    def __init__(self, words: list[str]) -> None:
        words = words[::-1]
        while words:
            flag = words.pop()
            kind = Options.__annotations__.get(name := flag[2:].replace("-", "_"), "")
            if flag == "--help":
                say(f"{__doc__}\n{Options.__doc__}\n")
                leave(0)
            elif not kind or not flag.startswith("--"):
                say(f"there is no flag {flag}\n", 2)
                leave(2)
            elif kind == "bool":
                setattr(self, name, True)
            elif flag == "--fork-child":
                self.fork_child = words.pop() if words and not words[-1].startswith("--") else "same"
            else:
                setattr(self, name, {"int": int, "float": float, "str": str}[kind.partition(" ")[0]](words.pop()))


# --- the database ---


class Rows:
    """Numbered rows in a WAL database; one connection, since what is tested is the file and not the threads."""

    def __init__(self, path: str) -> None:
        import _sqlite3

        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120  # pathlib costs 5 ms of the start
        self._lock = _thread.allocate_lock()
        self._db = _sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._switch_to_wal(_sqlite3.OperationalError)
        self._db.execute("CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY, at REAL)")

    def _switch_to_wal(self, locked: type[Exception]) -> None:
        """Another process may switch at the same time: SQLite refuses one of both at once, whatever the time-out."""
        until = time.monotonic() + 10
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
            except locked:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)  # noqa: TID251 - no event says when the lock is gone
            else:
                return

    def add(self) -> int:
        with self._lock:
            self._db.execute("INSERT INTO rows (at) VALUES (?)", (time.time(),))
            return self._count()

    def grow(self, megabytes: int) -> int:
        with self._lock:
            self._db.execute("CREATE TABLE IF NOT EXISTS noise (b BLOB)")
            for _ in range(megabytes):
                self._db.execute("INSERT INTO noise VALUES (randomblob(1000000))")
            return self._count()

    def count(self) -> int:
        with self._lock:
            return self._count()

    def _count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM rows").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


rows: Rows | None = None
lazy: str | None = None  # where the first row makes it


# --- what may be asked ---


def echo(r: Request) -> None:
    seen = {"method": r.method, "path": r.target, "query": r.query, "headers": r.headers, **r.digest()}
    names = [v for k, v in r.query if k == "env"]
    env = {name: os.environ.get(name) for name in names}
    r.tell({**seen, "pid": os.getpid(), "arguments": sys.argv[1:], "directory": os.getcwd(), "env": env})  # noqa: PTH109


def counted(r: Request, number: Callable[[Rows], int]) -> None:
    if rows is None:
        return r.answer(500, b'{"error": "started without a database"}', "application/json")
    r.answer(200, b'{"count": %d}' % number(rows), "application/json")


def add(r: Request) -> None:
    global rows
    if rows is None and lazy is not None:
        rows = Rows(lazy)
    counted(r, Rows.add)


def count(r: Request) -> None:
    counted(r, Rows.count)


def grow(r: Request) -> None:
    megabytes = int(r.asked("mb", "1"))
    counted(r, lambda found: found.grow(megabytes))


def slow(r: Request) -> None:
    if r.asked("hint", "0") == "1":
        r.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    wait(float(r.asked("s", "1")))
    r.answer(200, b"slow")


def sized(r: Request) -> None:
    r.answer(200, b"x" * int(r.asked("n", "0")), "application/octet-stream")


def chunked(r: Request) -> None:
    n, size, pause = int(r.asked("n", "3")), int(r.asked("size", "10")), float(r.asked("pause", "0"))
    trailers = r.asked("trailers", "0") == "1"
    more = [("Trailer", "X-Trailer")] if trailers else []
    r.head(200, [("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked"), *more])
    for _ in range(n):
        r.send(f"{size:x}\r\n".encode() + b"x" * size + b"\r\n")
        wait(pause)
    r.send(b"0\r\nX-Trailer: last\r\n\r\n" if trailers else b"0\r\n\r\n")


def sse(r: Request) -> None:
    n, pause = int(r.asked("n", "3")), float(r.asked("pause", "0"))
    r.head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
    for number in range(n):
        event = f"id: {number}\ndata: event {number}\n\n".encode()
        r.send(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        wait(pause)
    r.send(b"0\r\n\r\n")


def close_delimited(r: Request) -> None:
    r.close = True
    r.head(200, [("Content-Type", "text/plain")])
    r.send(b"x" * int(r.asked("n", "1000")))


def die_mid_answer(r: Request) -> None:
    r.head(200, [("Content-Length", "1000")])
    r.send(b"x" * 500)
    leave(3)


def die(r: Request) -> None:
    leave(int(r.asked("code", "1")))


def status(r: Request) -> None:
    code = int(r.asked("code", "200"))
    r.answer(code, f"status {code}\n".encode())


def headers(r: Request) -> None:
    pairs = [v.partition(":") for k, v in r.query if k == "set"]
    r.answer(200, b"headers", "text/plain", *((name, value.strip()) for name, _, value in pairs))


def early_hints(r: Request) -> None:
    r.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n")
    r.answer(200, b"hinted")


def no_content(r: Request) -> None:
    r.head(204, [])


def not_modified(r: Request) -> None:
    r.head(304, [("ETag", '"restless"')])


def continued(r: Request) -> None:
    early = r.asked("early", "")
    if not early:
        return r.tell(r.digest())
    r.close = r._read = True  # the body is not wanted: nothing of it is read
    r.answer(int(early), b"not wanted")


def upload(r: Request) -> None:
    r.tell(r.digest(float(r.asked("rate", "0"))))


def bad_framing(r: Request) -> None:
    r.close = True
    r.send(BAD_FRAMING[r.asked("kind", "both")])


def upgrade(r: Request) -> None:
    from base64 import b64encode
    from hashlib import sha1

    if r.asked("refuse", "0") == "1":
        return r.answer(403, b"refused")
    if r.header("upgrade").lower() != "websocket":
        return r.answer(426, b"only WebSockets here", "text/plain", ("Upgrade", "websocket"))
    key = r.header("sec-websocket-key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 4.2.2
    protocol = r.header("sec-websocket-protocol").split(",")[0].strip()
    more = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    accept = b64encode(sha1(key.encode()).digest()).decode()
    r.send(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{more}\r\n".encode()
    )
    r.close = True
    read: Callable[[int], bytes] = r._reader.read1  # type: ignore[attr-defined]  # a BufferedReader
    if r.asked("frames", "0") == "1":
        return echo_frames(r)
    while data := read(65536):
        r.send(data)


def echo_frames(r: Request) -> None:
    """Each frame comes back without its mask, with the same opcode (ping comes back as pong); close ends it."""
    while len(start := r._reader.read(2)) == 2:
        length = start[1] & 127
        if length > 125:
            length = int.from_bytes(r._reader.read(2 if length == 126 else 8), "big")
        mask = r._reader.read(4)
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(r._reader.read(length)))
        first = start[0] + 1 if start[0] & 15 == 9 else start[0]
        if length < 126:
            size = bytes([length])
        else:
            size = b"\x7e" + length.to_bytes(2, "big") if length < 65536 else b"\x7f" + length.to_bytes(8, "big")
        r.send(bytes([first]) + size + payload)
        if start[0] & 15 == 8:
            return


ROUTES: dict[str, Callable[[Request], None]] = {
    "up": lambda r: r.answer(200, b"up"),
    "echo": echo,
    "add": add,
    "count": count,
    "grow": grow,
    "slow": slow,
    "bytes": sized,
    "chunked": chunked,
    "sse": sse,
    "close-delimited": close_delimited,
    "die-mid-answer": die_mid_answer,
    "die": die,
    "status": status,
    "headers": headers,
    "early-hints": early_hints,
    "no-content": no_content,
    "not-modified": not_modified,
    "upgrade": upgrade,
    "continue": continued,
    "upload": upload,
    "bad-framing": bad_framing,
}


# --- connections ---


def read_head(reader: BinaryIO) -> tuple[str, Headers] | None:
    line = reader.readline(65536).decode("latin-1").rstrip("\r\n")
    found: Headers = []
    while line and (field := reader.readline(65536).decode("latin-1").rstrip("\r\n")):
        name, _, value = field.partition(":")
        found.append((name, value.strip()))
    return (line, found) if line else None


def serve(conn: _socket.socket, options: Options, since: float) -> None:
    try:
        conn.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        with open(conn.fileno(), "rb", closefd=False) as reader:
            if options.garbage:
                conn.sendall(b"\x00\xffSSH-2.0-not a web server\r\n\r\n" * 3)
                return
            while head := read_head(reader):
                if not answer(Request(reader, conn, *head), options, since):
                    return
    except (OSError, ValueError):  # the other side left, or never spoke HTTP
        pass
    finally:
        conn.close()


def answer(request: Request, options: Options, since: float) -> bool:
    """Return whether the connection may be used again."""
    age = time.monotonic() - since
    if age < options.mute_for:
        wait(3600)
    route = ROUTES.get(request.path.rpartition("/")[2])
    if age < options.unwell_for:
        request.answer(503, b"not yet")
    elif route is None:
        request.answer(404, b"nothing here")
    else:
        route(request)
    for _ in request.body():
        pass
    return not request.close


def listen(options: Options) -> NoReturn:
    server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    server.bind((options.host, int(os.environ["PORT"])))
    server.listen(512)
    say(f"listening on {server.getsockname()[1]}\n")
    since = time.monotonic()
    # A signal that comes between two turns, before accept() sleeps, would not end the sleep; its byte does.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    _signal.set_wakeup_fd(wake)
    events = select.poll()
    events.register(server, select.POLLIN)
    events.register(woken, select.POLLIN)
    while True:
        if (server.fileno(), select.POLLIN) not in events.poll():
            continue
        conn = _socket.socket(fileno=server._accept()[0])  # type: ignore[attr-defined]  # nor this
        _thread.start_new_thread(serve, (conn, options, since))


# --- bad habits ---


def fork_child(options: Options) -> None:
    """A grandchild which ignores SIGTERM and holds our output open, and the database where it is asked to."""
    global rows
    reported, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
        if options.fork_child == "group":
            os.setpgid(0, 0)
        elif options.fork_child == "session":
            os.setsid()
        if options.db and options.child_holds_db:
            rows = Rows(options.db)
        os.write(tell, b"1")
        while True:
            wait(3600)
    os.read(reported, 1)  # it has stopped as ordered before anyone hears of it
    say(f"grandchild {pid}\n")


def chatter(rate: float) -> None:
    number = 0
    while True:
        say(f"chatter {number}\n")
        number += 1
        wait(1 / rate)


def flood() -> None:
    block = b"".join(b"flood %d\n" % n for n in range(1000))
    while True:
        os.write(1, block)


def die_later(seconds: float) -> None:
    wait(seconds)
    leave(9)


def on_term(options: Options) -> None:
    def end(*_: object) -> None:
        wait(options.slow_term)
        if rows is not None and not options.leave_wal:
            rows.close()
        leave(0)

    _signal.signal(_signal.SIGTERM, _signal.SIG_IGN if options.ignore_term else end)


def talk(options: Options) -> None:
    if options.binary_output:
        os.write(1, bytes(range(256)) + b"\r\n" + b"\xff\xfe\n" + "smörgås €\r\n".encode())
    if options.long_line:
        os.write(1, b"y" * options.long_line + b"\n")
    if options.chatter:
        _thread.start_new_thread(chatter, (options.chatter,))
    if options.flood:
        _thread.start_new_thread(flood, ())


def main() -> NoReturn:
    global rows, lazy
    options = Options(sys.argv[1:])
    on_term(options)
    if options.exit_at_once is not None:
        say(f"about to exit with {options.exit_at_once}\n", 2)
        say(options.last_words)
        leave(options.exit_at_once)
    wait(options.ready_after)
    if options.fork_child:
        fork_child(options)
    if options.db and options.lazy_db:
        lazy = options.db
    elif options.db:
        rows = Rows(options.db)
    if options.die_after is not None:
        _thread.start_new_thread(die_later, (options.die_after,))
    talk(options)
    wait(options.bind_late)
    listen(options)


if __name__ == "__main__":
    main()
