"""The bucket that ``s3://…`` and the environment name together. Pure: nobody is asked whether it exists."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from msgspec import Struct

SCHEME = "s3://"
KEY_ID, SECRET, TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
NAME = "BUCKET_NAME"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the first that is set counts, as for Amazon's own tools
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
TIGRIS = frozenset({"fly.storage.tigris.dev", "t3.storage.dev"})

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*")


class Bucket(Struct, frozen=True):
    name: str
    prefix: str  # what all keys begin with: "", or it ends with a slash
    endpoint: str | None  # https://host[:port]; None: Amazon's own
    region: str

    @property
    def on_tigris(self) -> bool:
        return self.endpoint is not None and urlsplit(self.endpoint).hostname in TIGRIS

    @property
    def place(self) -> str:
        """Where it is, for sentences."""
        return self.endpoint or f"Amazon S3 ({self.region})"


def bucket_of(url: str, environ: Mapping[str, str]) -> Bucket:
    """``url`` begins with ``s3://`` and has no ``faults``."""
    name, _, prefix = url.removeprefix(SCHEME).partition("/")
    prefix = prefix.strip("/")
    endpoint = _first(ENDPOINTS, environ)
    region = _first(REGIONS, environ) or ("us-east-1" if endpoint is None else "auto")
    return Bucket(name, f"{prefix}/" if prefix else "", endpoint and endpoint.rstrip("/"), region)


def url_faults(url: str) -> Iterator[str]:
    name, _, prefix = url.removeprefix(SCHEME).partition("/")
    if _BUCKET.fullmatch(name) is None:
        yield f"{url!r} names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX"
    prefix = prefix.strip("/")
    if prefix and (_PREFIX.fullmatch(prefix) is None or not {".", ".."}.isdisjoint(prefix.split("/"))):
        yield f"{prefix!r} cannot stand before keys: letters, digits, '-', '_', '.' and single slashes, as in a/b"


def environment_faults(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What the environment lacks, as (variable, sentence)."""
    for name in (KEY_ID, SECRET):
        if not environ.get(name, "").strip():
            yield name, "is not set, and a bucket needs it: on Fly, 'fly storage create' sets it as a secret"
    for name in ENDPOINTS:
        if environ.get(name) and not _is_address(environ[name]):
            yield name, f"{environ[name]!r} is not an address: it must be like https://fly.storage.tigris.dev"
    for name in REGIONS:
        if environ.get(name) and re.fullmatch(r"[a-z0-9-]+", environ[name]) is None:
            yield name, f"{environ[name]!r} is not a region: write auto for Tigris, or one such as eu-central-1"


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and port != 0 and text.isprintable()
