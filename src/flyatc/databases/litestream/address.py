"""Where litestream writes and reads: replica URLs, from the settings of the store. Pure."""

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from flyatc.config import bucket
from flyatc.config.schema import Storage, Tenant
from flyatc.databases.litestream.lines import folder

# litestream takes a file's URL literally up to a '?', and hands a database's path to SQLite as a URI
_UNSPEAKABLE = re.compile(r"[%?#]")


def prefix(tenant: Tenant, database: str) -> str:
    """Of all keys of the database in the store."""
    return f"users/{tenant.user}/{tenant.key}/{database.replace('/', '~')}/"  # no name holds a '~'


class Addresses:
    """``storage`` is resolved, and has a place to write to."""

    def __init__(self, storage: Storage, environ: Mapping[str, str]) -> None:
        self._storage, self._environ = storage, environ

    @property
    def in_bucket(self) -> bool:
        return self._storage.url.startswith(bucket.SCHEME)

    def of_line(self, tenant: Tenant, database: str, line: int, renewal: int = 0) -> str:
        return self.of_key(f"{prefix(tenant, database)}{folder(line, renewal)}")

    def of_key(self, key: str) -> str:
        """The replica below ``key`` of our store."""
        return self.of_url(f"{self._storage.url}/{key}", prefixed=key)

    def of_url(self, url: str, *, prefixed: str = "") -> str:
        """As litestream wants it: ``s3://bucket/path`` with what the environment says of the endpoint, or a file."""
        if not url.startswith(bucket.SCHEME):
            return f"file://{url.removeprefix('file:')}"
        there = bucket.bucket_of(self._storage.url if prefixed else url, self._environ)
        path = f"{there.prefix}{prefixed}".rstrip("/")
        query = {"region": there.region}
        if there.endpoint is not None:
            # Tigris is known to litestream by the exact host: then it asks for consistent answers.
            query |= {"endpoint": there.endpoint, "force-path-style": "true"}
        return f"s3://{there.name}/{path}?{urlencode(query)}"


def fault(text: str) -> str | None:
    """Why litestream could not work with this path; None: it can."""
    found = _UNSPEAKABLE.search(text)
    if found is None:
        return None
    return f"{text} has a {found[0]!r}, which litestream cannot have in a path: take another folder"
