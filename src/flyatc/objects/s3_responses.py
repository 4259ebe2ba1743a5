"""Check that an S3 response is complete. Pure.

Python's HTTP client treats the end of a connection as the end of the head. Headers are then missing or cut, and the
body seems empty: an empty listing would mean "surely absent". Neither it nor boto3 compares the length of such a body
with the Content-Length."""

import re
from collections.abc import Mapping

BODILESS = frozenset({204, 304})
TAGGED = frozenset({"GetObject", "PutObject", "UploadPart"})  # operations whose success has an ETag

_ETAG = re.compile(r'(W/)?"[^"]+"')
_LENGTH = re.compile(r"[0-9]+")


def flaw(operation: str, status: int, headers: Mapping[str, str], received: int | None) -> str | None:
    """Return why the response is incomplete, else None. ``headers``: case-insensitive. ``received``: bytes of the
    body; None: not read yet."""
    if status in BODILESS:
        return None
    length = headers.get("content-length", "").strip()
    chunked = headers.get("transfer-encoding", "").strip().lower() == "chunked"
    if _LENGTH.fullmatch(length) is None and (not chunked or (operation == "GetObject" and status < 300)):
        return "has no length"
    if received is not None and length and received != int(length):
        return f"has {received} bytes of {length}"
    if status >= 300 or operation not in TAGGED:
        return None
    if _ETAG.fullmatch(headers.get("etag", "").strip()) is None:
        return "has no ETag"
    if operation == "GetObject" and "last-modified" not in headers:
        return "has no Last-Modified"
    return None
