"""The memory of the cache is as large as it reports: measured."""

import tracemalloc

import pytest

from flyatc.delivery.cache.cache import Cache
from flyatc.delivery.cache.recording import Recording
from flyatc.delivery.cache.stored import CacheHit, File, Form, Ready
from flyatc.wire import head_parser

NOW = 1_800_000_000.0


def fill(cache: Cache, number: int, length: int, vary: bool, form: bool, ready: bool) -> None:
    line = "\r\nVary: Accept, User-Agent" if vary else ""
    for n in range(number):
        lines = "Host: www.example.com\r\nAccept: text/css\r\nUser-Agent: agent"
        text = f"GET /assets/file-{n}.css?v={n} HTTP/1.1\r\n{lines}\r\n\r\n"
        request = head_parser.RequestParser().parse(text.encode())
        found = cache.look_up(request, "user/tenant", NOW)
        assert isinstance(found, Recording)
        answer = (
            f"HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nCache-Control: public, max-age=60\r\n"
            f'ETag: "{n:032}"\r\nContent-Length: {length}{line}\r\n\r\n'
        )
        found.answer(head_parser.ResponseParser().parse(answer.encode(), b"GET"), NOW)
        found.body(b"x" * length)
        found.end()
        if form:
            served = cache.look_up(request, "user/tenant", NOW)
            assert isinstance(served, CacheHit)
            cache.keep_form(served.entry, b"gzip", Form(b"l" * 200, b"z" * (length // 3)))
        if ready:
            served = cache.look_up(request, "user/tenant", NOW)
            assert isinstance(served, CacheHit)
            cache.keep_ready(served, None)
            rendered = cache.pass_by(request, "user/tenant", None, NOW)
            assert isinstance(rendered, Ready)
            assert rendered.head(NOW).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("vary", [False, True])
@pytest.mark.parametrize(("form", "ready"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("number", "length"), [(1000, 1), (1000, 1000), (200, 50_000)])
def test_what_is_accounted_for_is_what_is_used(number: int, length: int, vary: bool, form: bool, ready: bool) -> None:
    cache = Cache(1 << 26, 1 << 20)
    ready = ready and not vary  # what depends on more than Accept-Encoding is put together each time
    fill(cache, 50, 10, vary, form, ready)
    cache.clear()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        fill(cache, number, length, vary, form, ready)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert cache.entries == number
    assert 0.7 < used / cache.octets < 1.15


def test_of_an_edited_file_only_the_newest_content_is_kept() -> None:
    cache, old, new = Cache(1 << 20, 1 << 20), File(b"/a.css", 1, 9), File(b"/a.css", 2, 9)
    cache.keep_packed(old, b"gzip", b"old")
    cache.keep_packed(old, b"br", b"old too")
    assert (cache.packed(old, b"gzip"), cache.packed(old, b"br"), cache.packed(new, b"br")) == (
        b"old",
        b"old too",
        None,
    )
    cache.keep_packed(new, b"gzip", b"new")
    assert (cache.packed(old, b"br"), cache.packed(new, b"gzip"), cache.entries) == (None, b"new", 1)
    assert cache.octets > 3
    assert cache.clear() == 1
