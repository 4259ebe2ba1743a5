"""An app behind the cache which writes down what it is asked. The clock is a number."""

from collections.abc import Callable

from flyatc.delivery.cache.cache import Cache, Refusal
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.state import Waiting
from flyatc.delivery.cache.stored import CacheHit, Ready
from flyatc.wire import head, head_parser

START = 1_800_000_000
MINUTE = "Cache-Control: public, max-age=60"


class Seen:
    """Records what a visitor sees."""

    def __init__(self, block: bytes, body: bytes) -> None:
        first, *lines = block.decode("latin-1").split("\r\n")
        self.status, self.body = int(first.split(" ")[1]), body
        self.fields = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]

    def __getitem__(self, name: str) -> str | None:
        return next((value for name_, value in self.fields if name_ == name), None)


Answer = tuple[int, list[str], bytes]


class Stage:
    """``answer``: of the app, or how it makes one. ``asked``: what it was asked."""

    def __init__(self, bound: int = 1 << 20, item: int = 1 << 16, *, rfc: bool = False) -> None:
        self.cache, self.rfc = Cache(bound, item), rfc
        self.now: float = START
        self.asked: list[head.RequestHead] = []
        self.answer: Answer | Callable[[head.RequestHead], Answer] = (200, [MINUTE], b"hello")
        self.framed = True

    def visit(self, target: str = "/", *lines: str, method: str = "GET", tenant: str = "u/t", host: str = "h") -> Seen:
        found = self.look_up(request(target, *lines, method=method, host=host), tenant)
        return self.finish(found)

    def look_up(
        self, asked: head.RequestHead, tenant: str = "u/t", waiter: Callable[[bool], None] | None = None
    ) -> Ready | CacheHit | Recording | Waiting | Refusal:
        ready = self.cache.pass_by(asked, tenant, None, self.now)
        return ready if isinstance(ready, Ready) else self.cache.look_up(asked, tenant, self.now, waiter, rfc=self.rfc)

    def finish(self, found: Ready | CacheHit | Recording | Waiting | Refusal) -> Seen:
        if isinstance(found, Ready):
            return Seen(found.head(self.now), found.body)
        if isinstance(found, Refusal):
            return Seen(b"HTTP/1.1 %d Refused" % found.status, b"")
        if isinstance(found, CacheHit):
            self.cache.keep_ready(found, None)  # from now on it goes the short way, where it may
            return Seen(found.head(), found.body)
        assert isinstance(found, Recording)
        came, body = self.ask(found)
        served = found.answer(came, self.now)
        if served is not None:
            return Seen(served.head(), served.body)
        for at in range(0, len(body), 3):
            found.body(body[at : at + 3])
        found.end()
        return Seen(b"HTTP/1.1 %d %b%b%b" % (came.status, came.reason, b"".join(came.kept), found.cache_lines), body)

    def ask(self, recording: Recording) -> tuple[head.ResponseHead, bytes]:
        """Return what the edge does: the request goes to the app without what is dropped and with what is added."""
        asked = recording.asked.head
        lines = b"".join(asked.kept).split(b"\r\n")[1:]
        kept = [line for line in lines if line.partition(b":")[0].lower() not in recording.drops]
        sent = b"%b %b HTTP/1.1" % (asked.method, asked.path)
        sent += b"".join(b"\r\n" + line for line in kept) + recording.adds + b"\r\n\r\n"
        self.asked.append(head_parser.RequestParser().parse(sent))
        status, more, body = self.answer(self.asked[-1]) if callable(self.answer) else self.answer
        text = f"HTTP/1.1 {status} Fine" + "".join(f"\r\n{line}" for line in more)
        if self.framed and status not in (204, 304):
            text += f"\r\nContent-Length: {len(body)}"
        came = head_parser.ResponseParser().parse(text.encode("latin-1") + b"\r\n\r\n", asked.method)
        return came, b"" if asked.method == b"HEAD" or status == 304 else body


def request(target: str = "/", *lines: str, method: str = "GET", host: str = "h") -> head.RequestHead:
    text = f"{method} {target} HTTP/1.1\r\nHost: {host}" + "".join(f"\r\n{line}" for line in lines)
    return head_parser.RequestParser().parse(text.encode("latin-1") + b"\r\n\r\n")


def counting(*lines: str) -> Callable[[head.RequestHead], Answer]:
    """An app whose answers are numbered."""
    count = iter(range(1, 1000))
    return lambda _: (200, list(lines), b"v%d" % next(count))


def tagged(etag: str, *lines: str, body: bytes = b"hello") -> Callable[[head.RequestHead], Answer]:
    """An app which knows its ETag."""

    def answer(asked: head.RequestHead) -> Answer:
        if asked.line(b"if-none-match") == etag.encode():
            return 304, [f"ETag: {etag}", *lines], b""
        return 200, [f"ETag: {etag}", *lines], body

    return answer


def outcomes(stage: Stage, *targets: str) -> list[str | None]:
    return [stage.visit(target)["x-cache"] for target in targets]
