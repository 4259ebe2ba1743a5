"""An app with one page of 30 KB, which serves single ranges of it and counts the requests that came (/count).

Listens on 127.0.0.1:$PORT. /page: may be cached for an hour, with a strong ETag; /old: has nothing but a date.
"""

import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = b"".join(b"<p>paragraph %04d of a page</p>\n" % n for n in range(1000))
count = 0


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        global count
        name = self.path.rpartition("/")[2]
        count += name != "count"
        body, status, lines = BODY if name != "count" else b"%d" % count, 200, {"Content-Type": "text/html"}
        if name == "page":
            lines |= {"ETag": '"one"', "Cache-Control": "max-age=3600"}
        if name == "old":
            lines |= {"Last-Modified": "Fri, 01 Jan 2021 00:00:00 GMT"}
        if name == "gone":
            status, body, lines["Cache-Control"] = 500, b"gone", "max-age=3600"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted and status == 200:
            first, last = (int(number) for number in wanted.groups())
            lines["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status, body = 206, body[first : last + 1]
        self.send_response(status)
        for field, value in lines.items():
            self.send_header(field, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
