"""An S3 which refuses everything with the same words: what no S3 on loopback can be brought to say."""

import contextlib
import http.server
import threading
from collections.abc import Iterator

from fakes.s3 import Server

# As Amazon says them: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
CLOCK = 403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
REGION = 400, "AuthorizationHeaderMalformed", "The authorization header is malformed; the region 'us-esat-1' is wrong"
BROKEN = 500, "InternalError", "We encountered an internal error. Please try again."


def refusing(status: int, word: str, message: str) -> contextlib.AbstractContextManager[Server]:
    body = f"<?xml version='1.0'?><Error><Code>{word}</Code><Message>{message}</Message></Error>"
    return answering(status, body.encode())


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[Server]:
    """The same to every request, as a proxy in between may."""

    class Refusal(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")  # what was sent along need not be read
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="refusals")
    thread.start()
    try:
        yield Server(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
