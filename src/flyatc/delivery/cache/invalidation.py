"""URIs that a successful unsafe request has changed (RFC 9111 §4.4). Pure."""

from urllib.parse import urljoin, urlsplit

from flyatc.delivery.cache.request_key import Uri
from flyatc.wire import head

_LONGEST = 4096  # octets of both URIs together


def changed(uri: Uri, came: head.ResponseHead) -> list[Uri]:
    """URIs changed by an unsafe request: its own, and Location and Content-Location on the same host.

    ``came``: the response, which is no error."""
    found = [uri]
    for name in (b"location", b"content-location"):
        if (value := came.line(name)) is not None and (other := _resolve(uri, value)) is not None:
            found.append(other)
    return found


def _resolve(uri: Uri, reference: bytes) -> Uri | None:
    tenant, host, path, query = uri
    if len(host) + len(path) + len(query or b"") + len(reference) > _LONGEST:
        return None  # invalidating them is optional (RFC 9111 §4.4), and urllib would cache such long strings
    here = b"http://%b%b" % (host, path if query is None else path + b"?" + query)
    try:
        there = urlsplit(urljoin(here.decode("latin-1"), reference.decode("latin-1")))
    except ValueError:
        return None
    if there.scheme not in ("http", "https") or there.netloc.lower() != host.decode("latin-1"):
        return None
    return tenant, host, (there.path or "/").encode("latin-1"), there.query.encode("latin-1") if there.query else None
