"""An app that keeps its database where $DATABASE says, and holds it open from the first request on.

write  writes a row; once  writes one and closes; read  reads only; make?name=  makes a database in $DATA.
$REFERENCE is opened, too.
"""

import http.server
import os
import sqlite3
import threading
import urllib.parse

KEPT: dict[str, sqlite3.Connection] = {}
LOCK = threading.Lock()


def connect(path: str) -> sqlite3.Connection:
    if path not in KEPT:
        KEPT[path] = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    return KEPT[path]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        last = url.path.rpartition("/")[2]
        with LOCK:
            if last == "write":
                db = connect(os.environ["DATABASE"])
                db.execute("CREATE TABLE IF NOT EXISTS t (a)")
                db.execute("INSERT INTO t VALUES (1)")
            elif last == "once":
                db = sqlite3.connect(os.environ["DATABASE"], isolation_level=None, timeout=30)
                db.execute("CREATE TABLE IF NOT EXISTS t (a)")
                db.execute("INSERT INTO t VALUES (1)")
                db.close()
            elif last == "read":
                connect(os.environ["DATABASE"]).execute("SELECT * FROM sqlite_schema").fetchall()
            elif last == "make":
                name = urllib.parse.parse_qs(url.query, errors="surrogateescape")["name"][0]
                db = connect(f"{os.environ['DATA']}/{name}")
                db.execute("CREATE TABLE IF NOT EXISTS t (a)")
                db.execute("INSERT INTO t VALUES (1)")
            if "REFERENCE" in os.environ:
                connect(os.environ["REFERENCE"]).execute("SELECT * FROM t").fetchall()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
