"""A WSGI app whose requests leave jobs behind. The last segment of the path decides:

burn?s=    a thread computes for so long, then writes a row
sleep?s=   a thread sleeps for so long, then writes a row
fork?s=    a child process sleeps for so long, then writes a row
trickle?s= a thread writes a row each half second for so long
rows       how many rows there are
"""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

DATABASE = os.environ["DATABASE_PATH"]


def write() -> None:
    with sqlite3.connect(DATABASE, isolation_level=None, timeout=30) as db:
        db.execute("CREATE TABLE IF NOT EXISTS jobs (at REAL)")
        db.execute("INSERT INTO jobs VALUES (?)", (time.time(),))
    db.close()


def burn(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))
    write()


def sleep(seconds: float) -> None:
    time.sleep(seconds)  # noqa: TID251
    write()


def trickle(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        write()
        threading.Event().wait(0.5)


def fork(seconds: float) -> None:
    code = f"import time; time.sleep({seconds}); import jobs_app; jobs_app.write()"
    subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)


def app(environ: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:
    last = environ["PATH_INFO"].rpartition("/")[2]
    asked = parse_qs(environ["QUERY_STRING"])
    start("200 OK", [("Content-Type", "text/plain")])
    if last == "rows":
        write()
        with sqlite3.connect(DATABASE, timeout=30) as db:
            count = db.execute("SELECT count(*) FROM jobs").fetchone()[0] - 1
        db.close()
        return [str(count).encode()]
    if last == "fork":
        fork(float(asked["s"][0]))
    elif last in (jobs := {"burn": burn, "sleep": sleep, "trickle": trickle}):
        threading.Thread(target=jobs[last], args=(float(asked["s"][0]),), daemon=True).start()
    return [b"accepted"]
