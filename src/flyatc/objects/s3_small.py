"""A bucket as a store: small objects, listing and deleting. The blocking part."""

import contextlib
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from flyatc.kit.threads import Tick
from flyatc.objects.s3_client import READ_SECONDS, Clients, date, door
from flyatc.objects.store import SMALL, Absent, ConditionFailed, Seen, Stored, StoreUnavailable, check_key

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef, ObjectTypeDef

CHUNK = 64 << 10


class Small:
    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._bucket = clients.bucket

    def probe(self) -> None:
        """Raises StoreRefused where credentials or bucket are wrong."""
        with door(self._bucket):
            self._clients.retrying.list_objects_v2(
                Bucket=self._bucket.name, Prefix=f"{self._bucket.prefix}checks/", MaxKeys=1
            )

    def look(self, key: str) -> Seen | None:
        name = self.name(key)
        try:
            with door(self._bucket):
                answer = self._clients.retrying.get_object(Bucket=self._bucket.name, Key=name)
                body = _read(answer, key)
        except Absent:
            return None
        age = date(answer["ResponseMetadata"]) - answer["LastModified"].timestamp()
        return Seen(body, answer["ETag"].strip('"'), max(0.0, age))

    def put(self, key: str, body: bytes, *, create: bool, match: str | None) -> str:
        if len(body) > SMALL:
            raise ValueError(f"{key} has {len(body)} octets: put is for {SMALL} at most, upload for the rest")
        request = self._clients.retrying.put_object
        if create:
            request = partial(self._clients.once.put_object, IfNoneMatch="*")
        elif match is not None:
            request = partial(self._clients.once.put_object, IfMatch=f'"{match}"')
        try:
            with door(self._bucket):
                answer = request(Bucket=self._bucket.name, Key=self.name(key), Body=body)
        except ConditionFailed as error:
            why = "exists already" if create else "has been written by somebody else"
            raise ConditionFailed(f"{key} {why}") from error
        except Absent as error:
            raise ConditionFailed(f"{key} is not there any more") from error
        return answer["ETag"].strip('"')

    def head(self, key: str) -> Stored | None:
        """By a listing: what S3 answers to HEAD does not tell a missing bucket from a missing key."""
        name = self.name(key)
        with door(self._bucket):
            answer = self._clients.retrying.list_objects_v2(Bucket=self._bucket.name, Prefix=name, MaxKeys=1)
            found = [entry for entry in answer.get("Contents", ()) if entry["Key"] == name]
        return self._stored(found[0]) if found else None

    def list(self, prefix: str, tick: Tick) -> tuple[Stored, ...]:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} does not end with a slash")
        check_key(prefix.removesuffix("/"))
        with door(self._bucket):
            pages = self._clients.retrying.get_paginator("list_objects_v2")
            found: list[Stored] = []
            for answer in pages.paginate(Bucket=self._bucket.name, Prefix=f"{self._bucket.prefix}{prefix}"):
                found += [self._stored(entry) for entry in answer.get("Contents", ())]
                tick(len(found), 0)
        return tuple(sorted(found, key=lambda stored: stored.key))

    def delete(self, key: str, *, match: str | None = None) -> None:
        if match is not None:
            return self._delete_matching(key, match)
        with contextlib.suppress(Absent), door(self._bucket):
            self._clients.retrying.delete_object(Bucket=self._bucket.name, Key=self.name(key))
        return None

    def _delete_matching(self, key: str, etag: str) -> None:
        try:
            with door(self._bucket):
                self._clients.once.delete_object(Bucket=self._bucket.name, Key=self.name(key), IfMatch=f'"{etag}"')
        except (Absent, ConditionFailed) as error:
            raise ConditionFailed(f"{key} is not there any more, or has been written by somebody else") from error

    def name(self, key: str) -> str:
        check_key(key)
        return f"{self._bucket.prefix}{key}"

    def _stored(self, entry: "ObjectTypeDef") -> Stored:
        key = entry["Key"].removeprefix(self._bucket.prefix)
        return Stored(key, entry["Size"], entry["ETag"].strip('"'), float(int(entry["LastModified"].timestamp())))


def _read(answer: "GetObjectOutputTypeDef", key: str) -> bytes:
    """Whole, or an error: each read is bounded by the socket, and all of them together here."""
    parts, size, until = [], 0, monotonic() + READ_SECONDS
    with contextlib.closing(answer["Body"]) as body:  # not the body itself: that gives a stream which counts nothing
        while chunk := body.read(CHUNK):
            parts.append(chunk)
            size += len(chunk)
            if size > SMALL:
                raise StoreUnavailable(f"{key} is larger than the {SMALL} octets which it may have")
            if monotonic() > until:
                raise StoreUnavailable(f"{key} comes too slowly")
    return b"".join(parts)
