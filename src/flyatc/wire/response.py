"""Answers of our own, as bytes. Pure but for the date, which is kept for a second."""

from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from time import time

_REASON = {status.value: status.phrase.encode() for status in HTTPStatus} | {499: b"Client Closed Request"}
_date: tuple[int, bytes] = (0, b"")


def reason(status: int) -> bytes:
    return _REASON.get(status, b"Unknown")


def date_line() -> bytes:
    """``Date: …\\r\\n`` of now (RFC 9110 §6.6.1)."""
    global _date
    now = int(time())
    if _date[0] != now:
        _date = (now, f"\r\nDate: {formatdate(now, usegmt=True)}".encode())
    return _date[1]


def build(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, head_only: bool, close: bool) -> bytes:
    """A whole answer with its Content-Length."""
    parts = [b"HTTP/1.1 %d %b" % (status, reason(status)), date_line()]
    parts += [b"\r\n" + name + b": " + value for name, value in headers]
    if status >= 200 and status not in (204, 304):
        parts.append(b"\r\nContent-Length: %d" % len(body))
    parts.append(b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n")
    if not head_only:
        parts.append(body)
    return b"".join(parts)
