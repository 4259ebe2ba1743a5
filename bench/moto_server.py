"""An S3 which keeps all conditions and notes every request: moto behind a lock (its check and set are two steps).

moto_server.py PORT NOTES: a line of JSON for each request, with the time when it came (CLOCK_MONOTONIC).
"""

import io
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class KeepAlive(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"


def main(port: str, path: str) -> None:
    application, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
    with open(path, "a", buffering=1) as notes:  # noqa: PTH123 - one line, one write

        def noted(environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
            line = {
                "at": time.monotonic(),
                "method": environ["REQUEST_METHOD"],
                "path": environ["PATH_INFO"],
                "query": environ["QUERY_STRING"],
                "octets": int(environ.get("CONTENT_LENGTH") or 0),
                "agent": environ.get("HTTP_USER_AGENT", ""),
            }
            notes.write(json.dumps(line) + "\n")
            # nobody holds the others up while he sends or fetches something long: a renewal would come late for that
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(line["octets"]))
            with nullcontext() if _fetches(line) else lock:
                answer: Iterable[bytes] = application(environ, respond)
                return answer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        make_server("127.0.0.1", int(port), noted, threaded=True, request_handler=KeepAlive).serve_forever()


def _fetches(line: dict[str, Any]) -> bool:
    return line["method"] == "GET" and str(line["path"]).endswith((".zst", ".ltx"))


if __name__ == "__main__":
    main(*sys.argv[1:])
