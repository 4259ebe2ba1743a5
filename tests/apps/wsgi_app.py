"""An ordinary WSGI app, for real servers. The last segment of the path decides:

echo      JSON: method, script_name, path, query, length and sha256 of the body, pid
stream    ?n=3&pause=0.2: lines, one by one
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

Start = Callable[[str, list[tuple[str, str]]], Any]


def app(environ: dict[str, Any], start: Start) -> Iterator[bytes]:
    last = environ["PATH_INFO"].rpartition("/")[2]
    if last == "echo":
        body = json.dumps(echo(environ)).encode()
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        yield body
    elif last == "stream":
        start("200 OK", [("Content-Type", "text/plain")])
        yield from stream(environ["QUERY_STRING"])
    else:
        start("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        yield b"none\n"


def echo(environ: dict[str, Any]) -> dict[str, Any]:
    length, digest = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        length += len(piece)
        digest.update(piece)
    return {
        "method": environ["REQUEST_METHOD"],
        "script_name": environ.get("SCRIPT_NAME", ""),
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "length": length,
        "sha256": digest.hexdigest(),
        "pid": os.getpid(),
    }


def stream(query: str) -> Iterator[bytes]:
    asked = parse_qs(query)
    for n in range(int(asked["n"][0])):
        if n:
            time.sleep(float(asked["pause"][0]))  # noqa: TID251  # slowness is what is asked for
        yield b"line %d\n" % n
