"""Thousands of odd messages: nothing raises, and no one gets what was made for another.

A hundred thousand, in half a minute: ``FLYATC_FUZZ_ROUNDS=100000 pytest tests/pure/test_delivery_cache_fuzz.py``;
others than last time: with ``FLYATC_FUZZ_SEED``."""

import os
from collections.abc import Callable, Sequence
from random import Random

import pytest

from flyatc.delivery.cache.cache import Cache, Refusal
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.stored import CacheHit, File, Ready
from flyatc.wire import head, head_parser
from flyatc.wire.errors import BadMessage

ROUNDS = int(os.environ.get("FLYATC_FUZZ_ROUNDS", "5000"))
SEED = int(os.environ.get("FLYATC_FUZZ_SEED", "3"))
START = 1_800_000_000.0
TENANTS = ("a/b", "a/bb", "ab/b")
HOSTS = ("h", "H", "h:80", "hh")
PATHS = ("/", "/a", "/a/", "/%61", "/b?", "/b?x=1", "/b?x=2")
CONTROLS = (
    *("public", "max-age=60", "max-age=0", "max-age=-1", 'max-age="9"', "max-age=99999999999999999999", "s-maxage=5"),
    *("no-cache", 'no-cache="x"', "no-store", "private", 'private="set-cookie, x"', "must-revalidate"),
    *("proxy-revalidate", "stale-while-revalidate=30", "stale-if-error=30", "max-stale", "min-fresh=3"),
    *("only-if-cached", 'x="', "=", "\x80\xff"),
)
DATES = ("Fri, 15 Jan 2027 08:00:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "0", "never", "")
TAGS = ('"a"', 'W/"a"', '"b"', "*", '"', "a")
ASKS = {
    "Accept": ("a", "b", "a , b", ""),
    "Accept-Encoding": ("gzip", "br, gzip", "*;q=0"),
    "Authorization": ("Basic x",),
    "Cookie": ("a=1", "a=2"),
    "If-None-Match": TAGS,
    "If-Match": TAGS,
    "If-Modified-Since": DATES,
    "If-Range": (*TAGS, *DATES),
    "Range": ("bytes=0-1", "bytes=-1", "bytes=9-", "bytes=0-0,1-1", "bytes=x", "lines=1", "bytes=" + "9" * 99 + "-"),
    "X-Forwarded-Host": ("e",),
    "X_Original_URL": ("/e",),
    "Cache-Control": CONTROLS,
}
ANSWERS = {
    "Vary": ("Accept", "accept,  COOKIE", "*", "Accept-Encoding", ",", ""),
    "ETag": TAGS,
    "Last-Modified": DATES,
    "Expires": DATES,
    "Date": DATES,
    "Age": ("0", "5", "-5", "x", "5, 7", "9" * 30),
    "Set-Cookie": ("s=1",),
    "Content-Range": ("bytes 0-1/2",),
    "Location": ("/a", "//[", "http://h/a", "\x80"),
    "X-Cache": ("hit",),
    "Connection": ("etag", "vary"),
}
STATUSES = (200, 200, 200, 200, 200, 204, 206, 301, 304, 404, 500, 503)
METHODS = ("GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "OPTIONS")


class Odd:
    """Odd messages, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def request(self) -> head.RequestHead:
        pick = self.random.choice
        while True:
            try:
                return head_parser.RequestParser().parse(self._request_text(pick).encode("latin-1"))
            except BadMessage:  # two Authorization headers which differ
                continue

    def _request_text(self, pick: Callable[[Sequence[str]], str]) -> str:
        return f"{pick(METHODS)} {pick(PATHS)} HTTP/1.1\r\nHost: {pick(HOSTS)}{self._lines(ASKS)}\r\n\r\n"

    def answer(self, method: bytes, length: int) -> head.ResponseHead:
        status = self.random.choice(STATUSES)
        framing = f"\r\nContent-Length: {length}" if self.random.random() < 0.8 and status not in (204, 304) else ""
        control = f"\r\nCache-Control: {self._control()}" if self.random.random() < 0.9 else ""
        text = f"HTTP/1.1 {status} X{framing}{control}{self._lines(ANSWERS)}\r\n\r\n"
        return head_parser.ResponseParser().parse(text.encode("latin-1"), method)

    def _control(self) -> str:
        return ", ".join(self.random.choices(("max-age=60", "public", *CONTROLS), k=self.random.randrange(1, 4)))

    def _noise(self) -> str:
        letters = '!"#,;= \\*/-09azAZ\t\x80\xff'
        return "".join(self.random.choices(letters, k=self.random.randrange(40)))

    def _lines(self, table: dict[str, tuple[str, ...]]) -> str:
        random, text = self.random, ""
        for name in random.choices(list(table), k=random.choice((0, 0, 1, 1, 1, 2, 5))):
            text += f"\r\n{name}: {random.choice(table[name]) if random.random() < 0.95 else self._noise()}"
        return text


def whose(request: head.RequestHead, tenant: str) -> bytes:
    """Return what an answer must have been made for, to be right for this request."""
    host = request.noted[b"host"][0].lower()
    lines = b"".join(request.kept).lower()
    other = b"".join(request.noted.get(b"x-forwarded-host", ())) + b"%d" % lines.count(b"x_original_url")
    return b"|".join(
        [tenant.encode(), host, request.path, b"-" if request.query is None else b"?" + request.query, other]
    )


@pytest.mark.parametrize("rfc", [False, True])
def test_odd_input_raises_nothing_and_no_client_gets_the_response_of_another(rfc: bool) -> None:
    odd, cache = Odd(SEED), Cache(100_000, 500)
    now, hits, shortened = START, 0, 0
    for number in range(ROUNDS):
        now += odd.random.choice((0, 0, 0.1, 3, -1))
        request, tenant = odd.request(), odd.random.choice(TENANTS)
        mine = whose(request, tenant)
        ready = cache.pass_by(request, tenant, None, now)
        found = cache.look_up(request, tenant, now, None, rfc=rfc)
        if isinstance(found, Recording):
            file = File(mine, 1, 1) if odd.random.random() < 0.05 else None
            instead = found.answer(odd.answer(request.method, 40), now, file)
            if instead is not None:
                found = instead
            elif file is not None:
                found.end()
            elif odd.random.random() < 0.05:
                found.fail(now)
            else:
                found.body(b"<%b>" % mine)
                found.end()
        if isinstance(ready, Ready):  # as if it went the long way
            assert isinstance(found, CacheHit)
            assert (ready.head(now), ready.body) == (found.head(), found.body), number
            shortened += 1
        if isinstance(found, CacheHit):
            cache.keep_ready(found, None)
            hits += 1
            stored = found.entry.answer.body
            assert found.entry.uri[0] == tenant
            assert stored in (b"", b"<%b>" % mine), number
            assert found.file is None or found.file.path == mine
            assert request.method == b"HEAD" or not found.entry.body_less
            assert b"\r\n\r\n" not in found.head()
            assert b"s=1" not in found.entry.answer.lines
        else:
            assert isinstance(found, Recording | Refusal)
    assert hits > ROUNDS // 50
    assert shortened > ROUNDS // 200
    assert cache.octets <= 100_000
    cache.clear()
    assert (cache.octets, cache.entries) == (0, 0)
