"""The uploads app: keeps files in a folder, and a row with the hash of each in a database in WAL mode. Standard library
only. $DATA is its folder; below it app.sqlite3 and storage/.

POST …/upload/NAME stores the body, then its row; DELETE …/upload/NAME removes the row, then the file; GET …/all answers
{"rows": {name: sha256}, "files": {name: sha256}}; GET …/up answers 200. A name may have slashes.
"""

import hashlib
import json
import os
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DATA = Path(os.environ["DATA"])
STORAGE = DATA / "storage"
LOCK = threading.Lock()
DATABASE = sqlite3.connect(DATA / "app.sqlite3", isolation_level=None, check_same_thread=False)
DATABASE.execute("PRAGMA journal_mode=WAL")
DATABASE.execute("CREATE TABLE IF NOT EXISTS uploads (name TEXT PRIMARY KEY, sha256 TEXT)")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.endswith("/up"):
            return self.respond({})
        with LOCK:
            rows = dict(DATABASE.execute("SELECT name, sha256 FROM uploads").fetchall())
            files = {
                str(path.relative_to(STORAGE)): digest(path.read_bytes())
                for path in STORAGE.rglob("*")
                if path.is_file()
            }
        return self.respond({"rows": rows, "files": files})

    def do_POST(self) -> None:
        name = self.path.partition("/upload/")[2]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with LOCK:
            path = STORAGE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            DATABASE.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?)", (name, digest(content)))
        self.respond({})

    def do_DELETE(self) -> None:
        name = self.path.partition("/upload/")[2]
        with LOCK:
            DATABASE.execute("DELETE FROM uploads WHERE name = ?", (name,))
            (STORAGE / name).unlink()
        self.respond({})

    def respond(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    sys.stdout.write("up\n")
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
