"""An ordinary WSGI app, for real servers. The last segment of the path decides:

echo      JSON: method, script_name, path, query, length and sha256 of the body, pid
stream    ?n=3&pause=0.2: lines, one by one
page      a page of 20 KB, made anew each time
asset     the same for everybody, for a year, with a count of how often it was asked for
file      ?name=: a file of $FILES, by X-Sendfile
"""

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

Start = Callable[[str, list[tuple[str, str]]], Any]

PAGE = b"<!doctype html><title>A page</title>" + b"".join(b"<p>Paragraph %d of a page</p>\n" % n for n in range(600))
ASKED = itertools.count(1)


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
        status, headers, body = small(last, parse_qs(environ["QUERY_STRING"]))
        start(status, [*headers, ("Content-Length", str(len(body)))])
        yield body


def small(last: str, asked: dict[str, list[str]]) -> tuple[str, list[tuple[str, str]], bytes]:
    if last == "page":
        return "200 OK", [("Content-Type", "text/html; charset=utf-8")], PAGE
    if last == "asset":
        headers = [("Content-Type", "text/css"), ("Cache-Control", "public, max-age=31536000"), ("ETag", '"abc"')]
        return "200 OK", headers, b"/* asked for %d times */\n" % next(ASKED) + b"body { margin: 0 }\n" * 200
    if last == "file":
        path = f"{os.environ['FILES']}/{asked['name'][0]}"
        return "200 OK", [("Content-Type", "text/plain"), ("X-Sendfile", path)], b""
    return "404 Not Found", [("Content-Type", "text/plain")], b"none\n"


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
