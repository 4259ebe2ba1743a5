"""Blocking upload and download of large S3 objects, to and from files; memory does not grow with their size.

A transfer uses one stream at a time: on two cores more gain nothing, and several transfers run concurrently. Downloads
resume after a broken connection; uploads repeat the failed part.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, BinaryIO

from flyatc.kit.threads import Tick
from flyatc.objects.s3_client import ATTEMPTS, Clients, translate_errors
from flyatc.objects.store import Absent, ConditionFailed, StoreRefused, StoreUnavailable, check_key
from flyatc.objects.threaded_store import SLOWEST, STALL

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from types_boto3_s3.type_defs import CompletedPartTypeDef, GetObjectOutputTypeDef

CHUNK = 256 << 10
PART = 16 << 20  # bytes; larger objects are uploaded in parts of this size
MOST_PARTS = 9_000  # S3 allows 10 000
TICK_BYTES, TICK_SECONDS = 1 << 20, 0.2
LEFTOVER_SECONDS = 86400.0
PAUSE = 0.2  # s, before a download resumes


class Transfers:
    """Transfers of one bucket."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._bucket = clients.bucket

    def download(self, key: str, path: Path, tick: Tick) -> None:
        """Download to ``path``, which must not exist, and does not after a failure."""
        self._download(self._name(key), path, tick)

    def download_by_full_key(self, key: str, path: Path, tick: Tick) -> None:
        """Download by the full key in the bucket, without our prefix."""
        self._download(key, path, tick)

    def _download(self, name: str, path: Path, tick: Tick) -> None:
        with path.open("xb") as file:
            try:
                _Download(self._clients, name, file, tick).run()
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    def upload(self, key: str, path: Path, create: bool, tick: Tick) -> str:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            pace = _Pace(tick, size)
            try:
                return self._send(key, file, size, create, pace)
            except ConditionFailed as error:
                raise ConditionFailed(f"{key} exists already") from error

    def abort_stale_uploads(self) -> None:
        """Abort multipart uploads begun over a day ago and never completed: they are invisible, but cost money."""
        bucket, prefix = self._bucket.name, self._bucket.prefix
        with contextlib.suppress(StoreUnavailable, Absent), translate_errors(self._bucket):
            listed = self._clients.once.list_multipart_uploads(Bucket=bucket, Prefix=prefix)
            for upload in listed.get("Uploads", ()):
                if upload["Initiated"].timestamp() < time() - LEFTOVER_SECONDS:
                    self._clients.once.abort_multipart_upload(
                        Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def _send(self, key: str, file: BinaryIO, size: int, create: bool, pace: "_Pace") -> str:
        if size > PART:
            return self._send_parts(key, file, size, create, pace)
        put = partial(self._clients.once.put_object, IfNoneMatch="*") if create else self._clients.retrying.put_object
        with translate_errors(self._bucket), _slice(file, 0, size, pace) as body:
            response = put(Bucket=self._bucket.name, Key=self._name(key), Body=body)
        pace.reached(size)
        return response["ETag"].strip('"')

    def _send_parts(self, key: str, file: BinaryIO, size: int, create: bool, pace: "_Pace") -> str:
        bucket, name = self._bucket.name, self._name(key)
        retrying, once = self._clients.retrying, self._clients.once
        complete = (
            partial(once.complete_multipart_upload, IfNoneMatch="*") if create else once.complete_multipart_upload
        )
        with translate_errors(self._bucket):
            begun = retrying.create_multipart_upload(Bucket=bucket, Key=name, ChecksumAlgorithm="CRC32")["UploadId"]
        try:
            parts = [self._send_part(name, begun, number, body) for number, body in _slices(file, size, pace)]
            with translate_errors(self._bucket):
                response = complete(Bucket=bucket, Key=name, UploadId=begun, MultipartUpload={"Parts": parts})
        except BaseException:
            with contextlib.suppress(StoreUnavailable, Absent), translate_errors(self._bucket):
                once.abort_multipart_upload(Bucket=bucket, Key=name, UploadId=begun)
            raise
        return response["ETag"].strip('"')

    def _send_part(self, name: str, upload: str, number: int, body: io.BufferedReader) -> "CompletedPartTypeDef":
        with translate_errors(self._bucket), body:
            response = self._clients.retrying.upload_part(
                Bucket=self._bucket.name,
                Key=name,
                UploadId=upload,
                PartNumber=number,
                Body=body,
                ChecksumAlgorithm="CRC32",
            )
        part: CompletedPartTypeDef = {"PartNumber": number, "ETag": response["ETag"]}
        if checksum := response.get("ChecksumCRC32"):
            part["ChecksumCRC32"] = checksum
        return part

    def _name(self, key: str) -> str:
        check_key(key)
        return f"{self._bucket.prefix}{key}"


class _Download:
    """Download of one object into a file, over as many connections as needed."""

    def __init__(self, clients: Clients, name: str, file: BinaryIO, tick: Tick) -> None:
        self._clients, self._bucket = clients, clients.bucket
        self._name, self._file = name, file
        self._pace = _Pace(tick, 0)
        self._etag: str | None = None  # of the data received so far
        self._done = 0

    def run(self) -> None:
        left = ATTEMPTS
        while True:
            before = self._done
            try:
                return self._resume()
            except (Absent, ConditionFailed) as error:
                if self._etag is None:
                    raise Absent(f"the store has no {self._name}") from error
                raise StoreUnavailable(f"{self._name} was changed during the download") from error
            except StoreRefused:
                raise
            except StoreUnavailable:
                if self._etag is not None and self._done == self._pace.total:
                    return None  # the connection broke after the last octet
                left = ATTEMPTS if self._done - before > PART else left - 1
                if left == 0:
                    raise
                threading.Event().wait(PAUSE)
                self._pace.reached(self._done)

    def _resume(self) -> None:
        """Download over one connection. Raises StoreUnavailable; the data received until then are kept."""
        with translate_errors(self._bucket), self._request() as response:
            total = self._done + response["ContentLength"]
            self._etag = response["ETag"]
            self._pace.total = total
            while chunk := response["Body"].read(CHUNK):
                self._file.write(chunk)
                self._done += len(chunk)
                self._pace.reached(self._done)
        if self._done != total:
            raise StoreUnavailable(f"{self._name} ended after {self._done} of {total} bytes")

    @contextlib.contextmanager
    def _request(self) -> "Iterator[GetObjectOutputTypeDef]":
        """Request the remaining data."""
        bucket, name = self._bucket.name, self._name
        if self._etag is None:
            response = self._clients.once.get_object(Bucket=bucket, Key=name)
        else:
            rest = f"bytes={self._done}-"
            response = self._clients.once.get_object(Bucket=bucket, Key=name, Range=rest, IfMatch=self._etag)
        with response["Body"]:
            if self._done and response["ResponseMetadata"]["HTTPStatusCode"] != 206:
                raise StoreUnavailable(
                    f"{self._bucket.place} cannot go on with {self._name} where the connection broke"
                )
            yield response


class _Pace:
    """Limits ticks to the rate that display and cancellation need, and aborts a transfer that is far too slow."""

    def __init__(self, tick: Tick, total: int) -> None:
        self.total = total
        self._tick = tick
        self._began = monotonic()
        self._ticked, self._ticked_at = 0, self._began

    def reached(self, done: int) -> None:
        """Report progress. Raises StoreUnavailable if too slow, and the tick's exception once cancelled."""
        now = monotonic()
        if now - self._began > STALL + self.total / SLOWEST:
            raise StoreUnavailable(
                f"the store takes too long: {done} of {self.total} bytes in {now - self._began:.0f} s"
            )
        if done - self._ticked >= TICK_BYTES or now - self._ticked_at >= TICK_SECONDS or done == self.total:
            self._ticked, self._ticked_at = done, now
            self._tick(done, self.total)


class _Slice(io.RawIOBase):
    """Part of a file as a file object. The SDK reads it for the checksum, to send it, and again for each retry.

    It is read while it is sent, so that it needs no memory, and aborts on cancellation."""

    def __init__(self, file: BinaryIO, start: int, size: int, pace: _Pace) -> None:
        self._descriptor = file.fileno()
        self._start, self._size, self._pace = start, size, pace
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        wanted = memoryview(buffer)[: max(0, self._size - self._at)]
        count = os.preadv(self._descriptor, [wanted], self._start + self._at)
        self._at += count
        self._pace.reached(self._start)
        return count


def _slice(file: BinaryIO, start: int, size: int, pace: _Pace) -> io.BufferedReader:
    return io.BufferedReader(_Slice(file, start, size, pace), CHUNK)


def _slices(file: BinaryIO, size: int, pace: _Pace) -> Iterator[tuple[int, io.BufferedReader]]:
    part = max(PART, -(-size // MOST_PARTS))
    for number, start in enumerate(range(0, size, part), 1):
        yield number, _slice(file, start, min(part, size - start), pace)
        pace.reached(min(size, start + part))
