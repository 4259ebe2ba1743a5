"""Generators of request and response heads that cost a naive proxy more than linear time or memory.

Each head is valid enough to pass the parser, or is refused by it: neither may take long. All are distinct."""

from collections.abc import Iterator

OCTETS = 60_000

# Every header that some code of flyatc reads, and one that none does.
REQUEST_FIELDS = (
    b"Connection Keep-Alive Proxy-Connection TE Trailer Upgrade HTTP2-Settings Expect Forwarded X-Forwarded-For "
    b"X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Prefix X-Request-Id X-Request-Start Accept Accept-Encoding "
    b"Authorization Cache-Control Cookie Content-Type If-Match If-None-Match If-Modified-Since If-Unmodified-Since "
    b"If-Range Range User-Agent Referer Via Fly-Client-IP Fly-Replay-Src Fly-Replay-Failed Fly-Replay-Cache-Status "
    b"Flyatc-Seal X-Original-URL X-HTTP-Method-Override Origin X-Other"
).split()
RESPONSE_FIELDS = (
    b"Connection Keep-Alive Proxy-Authenticate Trailer Upgrade X-Request-Id X-Sendfile X-Accel-Redirect Fly-Replay "
    b"Fly-Replay-Cache Cache-Control Content-Type Content-Encoding Content-Range Content-Location Location Date "
    b"Expires Age ETag Last-Modified Set-Cookie Vary X-Cache Digest Accept-Ranges Pragma X-Other"
).split()
FILLERS = (
    b"a,", b",", b" ", b'"', b'"a",', b'W/"a",', b"a=1;", b";q=", b"%41", b"0-0,", b"1", b"\\\"", b"aB-", b"\t,", b"(",
    b"/../",
)  # fmt: skip
NOMINATED = (b"X-Other", b"Cookie", b"Fly-Client-IP", b"X-Forwarded-For", b"Close", b"a")
PATHS = (
    b"/", b"/a", b"/.", b"/..", b"/.a", b"/%2e", b"/%252e", b"%41", b"%2541", b"%25", b"%", b"a", b";", b"/..;", b"\\",
    b"//a", b"/%00", b"/a%2f", b"~", b"/%C3%A9",
)  # fmt: skip
_HOST = b"Host: example.com\r\n"


def filled(text: bytes, octets: int) -> bytes:
    """``text`` repeated to at most so many octets."""
    return text * max(1, octets // len(text))


def named(start: bytes, octets: int) -> bytes:
    """Different names, as a list of at most so many octets."""
    return b",".join(b"%b%x" % (start, number) for number in range(octets // (len(start) + 5)))


def named_lines(start: bytes, octets: int) -> bytes:
    """A header line for each of the first of those names."""
    return b"".join(b"%b%x: b\r\n" % (start, number) for number in range(octets // (len(start) + 9)))


def _values(field: bytes, octets: int, lines: bytes) -> Iterator[bytes]:
    """Header blocks of the field: one long value of each kind, and as many lines of it as fit."""
    room = octets - len(lines) - len(field) - 100
    for filler in FILLERS:
        yield field + b": " + filled(filler, room) + b"\r\n"
    for value in (b"", b"a", b"5"):
        yield filled(field + b": " + value + b"\r\n", room)
    width = max(4, octets // 950)  # as many lines as a head may have
    line = field + b": " + filled(b"a", width - len(field) - 4) + b"\r\n"
    yield line * min(950, room // len(line))


def requests(octets: int = OCTETS) -> Iterator[tuple[str, bytes]]:
    """(what it is, the head)."""
    begin = b"GET /u/page HTTP/1.1\r\n" + _HOST
    for field in REQUEST_FIELDS:
        for number, block in enumerate(_values(field, octets, begin)):
            yield f"{field.decode()} {number}", begin + block + b"\r\n"
    for text in PATHS:
        for start, more in ((b"/u", b""), (b"/u/assets", b""), (b"", b""), (b"/u/x?", b""), (b"http://", b"")):
            target = start + filled(text, octets - len(start) - 60) + more
            yield f"target {start.decode()} {text.decode()}", b"GET " + target + b" HTTP/1.1\r\n" + _HOST + b"\r\n"
    yield from _many(begin, octets)
    yield "host", b"GET / HTTP/1.1\r\nHost: " + filled(b"a", octets - 40) + b"\r\n\r\n"
    yield "host without end", b"GET / HTTP/1.1\r\nHost: " + filled(b"a", octets - 40) + b":a\r\n\r\n"
    yield "method", filled(b"G", octets - 40) + b" / HTTP/1.1\r\n" + _HOST + b"\r\n"
    yield "range of parts", begin + b"Range: bytes=" + filled(b"0-0,", octets - 100) + b"0-0\r\n\r\n"
    yield "range of nothing", begin + b"Range: bytes=" + filled(b",", octets - 100) + b"0-0\r\n\r\n"


def responses(octets: int = OCTETS) -> Iterator[tuple[str, bytes]]:
    """(what it is, the head). All with a body of 2,000 octets, which may be compressed and stored."""
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nContent-Type: text/html\r\n"
    stored = plain + b"Cache-Control: public, max-age=60\r\n"
    for field in RESPONSE_FIELDS:
        for number, block in enumerate(_values(field, octets, stored)):
            yield f"{field.decode()} {number}", (stored if number % 2 else plain) + block + b"\r\n"
    yield from _many(plain, octets)
    yield "vary by many", stored + b"Vary: " + named(b"a", octets - 200) + b"\r\n\r\n"
    yield "private fields", plain + b'Cache-Control: private="' + named(b"a", octets - 200) + b'"\r\n\r\n'
    yield "reason", b"HTTP/1.1 200 " + filled(b"a", octets - 60) + b"\r\nContent-Length: 2000\r\n\r\n"


def _many(begin: bytes, octets: int) -> Iterator[tuple[str, bytes]]:
    """Return what concerns lines: many, and many which ``Connection`` names."""
    room = octets - len(begin) - 100
    for text in (b"a:\r\n", b"a: b\r\n", b"Cookie: a=b\r\n", b"X-Request-Id: a\r\n", b"x_forwarded_for: a\r\n"):
        yield f"lines of {text!r}", begin + filled(text, room) + b"\r\n"
    yield "different lines", begin + b"".join(b"a%d: b\r\n" % number for number in range(room // 12)) + b"\r\n"
    for name in NOMINATED:
        some = begin + b"Connection: " + named(name, room // 2) + b"\r\n"
        lines = min(room // 2, 900 * (len(name) + 9))
        yield f"nominated {name.decode()}", some + named_lines(name, lines) + b"\r\n"
        all_lines = named_lines(name, octets - len(begin) - room // 3 - 100)
        yield (
            f"nominated, all lines {name.decode()}",
            begin + b"Connection: " + named(name, room // 3) + b"\r\n" + all_lines + b"\r\n",
        )
        yield f"nominated once {name.decode()}", begin + b"Connection: " + filled(name + b",", room) + b"\r\n\r\n"
    yield "nominated by lines", begin + filled(b"Connection: X-Other\r\n", room) + b"X-Other: a\r\n\r\n"
