"""Build small complete responses as bytes. Pure except for the date, which is cached for a second."""

from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from time import time

_REASON = {status.value: status.phrase.encode() for status in HTTPStatus} | {499: b"Client Closed Request"}
_date: tuple[int, bytes] = (0, b"")


def reason(status: int) -> bytes:
    return _REASON.get(status, b"Unknown")


def date_line() -> bytes:
    """Return the present time as ``\\r\\nDate: …`` (RFC 9110 §6.6.1)."""
    global _date
    now = int(time())
    if _date[0] != now:
        _date = (now, f"\r\nDate: {formatdate(now, usegmt=True)}".encode())
    return _date[1]


def build(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, head_only: bool, close: bool) -> bytes:
    """Return a complete response with its Content-Length."""
    parts = [b"HTTP/1.1 %d %b" % (status, reason(status)), date_line()]
    parts += [b"\r\n" + name + b": " + value for name, value in headers]
    if status >= 200 and status not in (204, 304):
        parts.append(b"\r\nContent-Length: %d" % len(body))
    parts.append(b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n")
    if not head_only:
        parts.append(body)
    return b"".join(parts)
