"""Store on S3 or Tigris: ``S3Store`` is async, ``BucketObjects`` its blocking part."""

import contextlib
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from flyatc.config.check_sections import Bucket
from flyatc.kit.threads import Tick
from flyatc.objects.s3_client import READ_SECONDS, Clients, response_date, translate_errors
from flyatc.objects.s3_transfer import PART, Transfers
from flyatc.objects.store import SMALL, Absent, ConditionFailed, Seen, Stored, StoreUnavailable, check_key
from flyatc.objects.threaded_store import Calls, ThreadedStore
from flyatc.observe.log import Log

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef, ObjectTypeDef


T = TypeVar("T")

MAKING = 30.0  # s; for making the client, with the import of boto3, which is slow on a busy machine


class S3Store(ThreadedStore):
    """Store on a bucket. ``environ`` has the credentials. Each call has a deadline: see ``calls``.

    ``hurried``: seconds for a call, made without retries: for records that are useless when late."""

    part = PART

    def __init__(
        self, bucket: Bucket, environ: Mapping[str, str], *, hurried: float | None = None, log: Log | None = None
    ) -> None:
        self._clients = Clients(bucket, environ, hurried=hurried)
        self._objects = BucketObjects(self._clients)
        name = "s3-hurried" if hurried is not None else "s3"
        calls = Calls(name, bucket.place, log, seconds=hurried, replace=self._clients.replace)
        super().__init__(self._objects, calls)
        self._hurried = hurried

    async def open(self) -> None:
        """Open the bucket. Raises StoreRefused if credentials or bucket are wrong, StoreUnavailable."""
        await super().open()
        if not self._hurried:
            await self._call("sweep", self._objects.abort_stale_uploads)

    async def hang_up(self) -> None:
        await self._calls.small("hang up", self._clients.close)

    def close(self) -> None:
        super().close()
        self._clients.close()

    async def _prepare(self) -> None:
        """Make the client in a separate call, so that a short deadline need not cover it."""
        if not self._clients.made:
            await self._calls.small("make the client", self._clients.make, MAKING)


CHUNK = 64 << 10


class BucketObjects(Transfers):
    """Blocking operations on a bucket."""

    def open(self) -> None:
        """Test access to the bucket. Raises StoreRefused if credentials or bucket are wrong."""
        with translate_errors(self._bucket):
            self._clients.retrying.list_objects_v2(
                Bucket=self._bucket.name, Prefix=f"{self._bucket.prefix}checks/", MaxKeys=1
            )

    def get(self, key: str) -> tuple[bytes, str] | None:
        seen = self.look(key)
        return None if seen is None else (seen.body, seen.etag)

    def look(self, key: str) -> Seen | None:
        name = self._name(key)
        try:
            with translate_errors(self._bucket):
                response = self._clients.retrying.get_object(Bucket=self._bucket.name, Key=name)
                body = _read(response, key)
        except Absent:
            return None
        age = response_date(response["ResponseMetadata"]) - response["LastModified"].timestamp()
        return Seen(body, response["ETag"].strip('"'), max(0.0, age))

    def put(self, key: str, body: bytes, *, create: bool, match: str | None) -> str:
        if len(body) > SMALL:
            raise ValueError(f"{key} has {len(body)} bytes: put is for {SMALL} at most, upload for the rest")
        request = self._clients.retrying.put_object
        if create:
            request = partial(self._clients.once.put_object, IfNoneMatch="*")
        elif match is not None:
            request = partial(self._clients.once.put_object, IfMatch=f'"{match}"')
        try:
            with translate_errors(self._bucket):
                response = request(Bucket=self._bucket.name, Key=self._name(key), Body=body)
        except ConditionFailed as error:
            why = "exists already" if create else "was changed by another writer"
            raise ConditionFailed(f"{key} {why}") from error
        except Absent as error:
            raise ConditionFailed(f"{key} is not there any more") from error
        return response["ETag"].strip('"')

    def head(self, key: str) -> Stored | None:
        """Look the key up by a listing: S3's response to HEAD is the same for a missing bucket and a missing key."""
        name = self._name(key)
        with translate_errors(self._bucket):
            response = self._clients.retrying.list_objects_v2(Bucket=self._bucket.name, Prefix=name, MaxKeys=1)
            found = [entry for entry in _entries(response) if entry["Key"] == name]
        return self._stored(found[0]) if found else None

    def list(self, prefix: str, tick: Tick) -> tuple[Stored, ...]:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} does not end with a slash")
        check_key(prefix.removesuffix("/"))
        with translate_errors(self._bucket):
            pages = self._clients.retrying.get_paginator("list_objects_v2")
            found: list[Stored] = []
            for response in pages.paginate(Bucket=self._bucket.name, Prefix=f"{self._bucket.prefix}{prefix}"):
                found += [self._stored(entry) for entry in _entries(response)]
                tick(len(found), 0)
        return tuple(sorted(found, key=lambda stored: stored.key))

    def delete(self, key: str, *, match: str | None = None) -> None:
        if match is not None:
            return self._delete_matching(key, match)
        with contextlib.suppress(Absent), translate_errors(self._bucket):
            self._clients.retrying.delete_object(Bucket=self._bucket.name, Key=self._name(key))
        return None

    def _delete_matching(self, key: str, etag: str) -> None:
        try:
            with translate_errors(self._bucket):
                self._clients.once.delete_object(Bucket=self._bucket.name, Key=self._name(key), IfMatch=f'"{etag}"')
        except (Absent, ConditionFailed) as error:
            raise ConditionFailed(f"{key} is not there any more, or was changed by another writer") from error

    def _stored(self, entry: "ObjectTypeDef") -> Stored:
        key = entry["Key"].removeprefix(self._bucket.prefix)
        return Stored(key, entry["Size"], entry["ETag"].strip('"'), float(int(entry["LastModified"].timestamp())))


def _entries(response: "ListObjectsV2OutputTypeDef") -> "list[ObjectTypeDef]":
    """Return the objects of a page of a listing. Raises StoreUnavailable if it is none: an empty body, or a page that a
    proxy answers with 200, would pass for a folder without objects, and a database would begin empty."""
    if "IsTruncated" not in response:
        raise StoreUnavailable("the store's response is no listing: is there a proxy in between?")
    return response.get("Contents", [])


def _read(response: "GetObjectOutputTypeDef", key: str) -> bytes:
    """Read the whole body, or raise StoreUnavailable. The socket limits each read; the total time is limited here."""
    parts, size, until = [], 0, monotonic() + READ_SECONDS
    with contextlib.closing(response["Body"]) as body:  # ``with body`` would skip length checks
        while chunk := body.read(CHUNK):
            parts.append(chunk)
            size += len(chunk)
            if size > SMALL:
                raise StoreUnavailable(f"{key} is larger than the {SMALL} bytes allowed")
            if monotonic() > until:
                raise StoreUnavailable(f"{key} comes too slowly")
    return b"".join(parts)
