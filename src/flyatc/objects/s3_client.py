"""boto3 clients of a bucket, made at first use; the translation of the SDK's errors; the check of its responses.

The import of boto3 takes a quarter of a second and 40 MB: it happens in the thread of the first request.
"""

import contextlib
import email.utils
import functools
import re
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NoReturn, TypedDict

from flyatc.config import check_sections as places
from flyatc.config.check_sections import Bucket
from flyatc.objects.store import Absent, ConditionFailed, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    import boto3
    from botocore.exceptions import ClientError
    from botocore.model import OperationModel
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import ResponseMetadataTypeDef

    class _Response(TypedDict):
        status_code: int
        headers: Mapping[str, str]
        body: object


CONNECT_SECONDS, READ_SECONDS = 3.0, 10.0
ATTEMPTS = 3

_CREDENTIALS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "InvalidToken", "ExpiredToken"})
_REGION = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"})
HURRIED_SHARE = 0.45  # of a hurried call's time: the connect timeout, and the read timeout; the rest is spare


class Clients:
    """Clients of one bucket. ``retrying`` repeats failed requests; ``once`` never does: a conditional write repeated
    after a lost response would be refused because of itself, unnoticed."""

    def __init__(self, bucket: Bucket, environ: Mapping[str, str], *, hurried: float | None) -> None:
        self.bucket = bucket
        self._environ, self._hurried = environ, hurried is not None
        self._connect, self._read = CONNECT_SECONDS, READ_SECONDS
        if hurried is not None:
            self._connect = self._read = HURRIED_SHARE * hurried
        self._made: tuple[S3Client, S3Client] | None = None
        self._making = threading.Lock()  # several threads may make the first request

    @property
    def made(self) -> bool:
        return self._made is not None

    def make(self) -> None:
        """Make the clients ahead of the first request. Raises StoreRefused."""
        self._both()

    def replace(self) -> None:
        """Drop the clients after a hung call. The next call makes new ones, without waiting for the old ones' locks."""
        self._made, self._making = None, threading.Lock()

    @property
    def retrying(self) -> "S3Client":
        return self._both()[0]

    @property
    def once(self) -> "S3Client":
        return self._both()[1]

    def close(self) -> None:
        """Close all connections; another request opens new ones."""
        if (made := self._made) is not None:
            for client in set(made):
                client.close()

    def _both(self) -> "tuple[S3Client, S3Client]":
        if (made := self._made) is not None:
            return made
        with self._making, translate_errors(self.bucket):  # reads the AWS config files, if there are any
            if (made := self._made) is None:
                once = self._client(1)
                made = self._made = (once if self._hurried else self._client(ATTEMPTS)), once
            return made

    def _client(self, attempts: int) -> "S3Client":
        from botocore.config import Config

        style: Literal["path", "virtual"] = "path" if self.bucket.endpoint and not self.bucket.on_tigris else "virtual"
        client: S3Client = _session().client(
            "s3",
            aws_access_key_id=self._environ[places.KEY_ID].strip(),
            aws_secret_access_key=self._environ[places.SECRET].strip(),
            aws_session_token=self._environ.get(places.TOKEN),
            region_name=self.bucket.region,
            endpoint_url=self.bucket.endpoint,
            config=Config(
                s3={"addressing_style": style},
                signature_version="s3v4",
                connect_timeout=self._connect,
                read_timeout=self._read,
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=12,  # the number of threads
                tcp_keepalive=True,
                request_checksum_calculation="when_supported",
                response_checksum_validation="when_required",  # lengths are checked here, contents by the caller
            ),
        )
        client.meta.events.register_last("before-call.s3", _without_expect)
        client.meta.events.register("before-parse.s3", _check_complete)
        if self.bucket.on_tigris:
            client.meta.events.register("before-call.s3", _consistent)
        return client


@functools.cache
def _session() -> "boto3.Session":
    """Return the session shared by all clients: boto3's data on S3 take 10 MB."""
    import boto3

    return boto3.Session()


def _without_expect(params: dict[str, dict[str, str]], **_: object) -> None:
    """Remove ``Expect: 100-continue``: botocore loops forever if the connection ends within the interim response."""
    params["headers"].pop("Expect", None)


def _check_complete(response_dict: "_Response", operation_model: "OperationModel", **_: object) -> None:
    """Check that a response is complete. Raises StoreUnavailable."""
    from botocore.response import StreamingBody

    body = response_dict["body"]
    received = len(body) if isinstance(body, bytes) else None
    found = why_incomplete(operation_model.name, response_dict["status_code"], response_dict["headers"], received)
    if found is not None:
        if isinstance(body, StreamingBody):
            body.close()
        raise StoreUnavailable(f"the store's response {found}: the connection ended too soon")


def _consistent(params: dict[str, dict[str, str]], **_: object) -> None:
    """Make Tigris read from the leader, since a copy in this region may be behind."""
    params["headers"]["X-Tigris-Consistent"] = "true"


def response_date(metadata: "ResponseMetadataTypeDef") -> float:
    """Return the Date of the response: Unix time, by the store's clock. Raises StoreUnavailable."""
    try:
        return email.utils.parsedate_to_datetime(metadata["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, ValueError) as error:
        raise StoreUnavailable("the store's response has no Date: is there a proxy in between?") from error


@contextlib.contextmanager
def translate_errors(bucket: Bucket) -> Iterator[None]:
    """Translate the SDK's errors into Absent, ConditionFailed, StoreRefused or StoreUnavailable."""
    from botocore.exceptions import BotoCoreError, ClientError, SSLError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        _raise_translated(bucket, error)
    except SSLError as error:
        raise StoreRefused(f"{bucket.place} shows a certificate that is not trusted: {_cause(error)}") from error
    except (BotoCoreError, HTTPError) as error:
        doubtful = places.ENDPOINTS[0] if bucket.endpoint else f"{places.REGIONS[0]} ({bucket.region})"
        raise StoreUnavailable(f"{bucket.place} does not answer: {_cause(error)}; is {doubtful} right?") from error


def _raise_translated(bucket: Bucket, error: "ClientError") -> NoReturn:
    details = error.response.get("Error", {})
    code, status = details.get("Code", ""), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"{status} {code}: {details.get('Message', '')}"[:300]
    if code == "NoSuchKey":  # exactly this code: any other 404 may come from a proxy
        raise Absent("the store has no such key") from error
    if code == "NoSuchBucket":
        what = f"{bucket.place} has no bucket {bucket.name}: create it, or correct storage.url or BUCKET_NAME"
        raise StoreRefused(what) from error
    if status == 412:
        raise ConditionFailed("another writer has changed it") from error
    if code in _REGION or status in (301, 307):
        raise StoreRefused(
            f"the bucket {bucket.name} is not in the region {bucket.region}: correct AWS_REGION or "
            f"AWS_ENDPOINT_URL_S3 ({text})"
        ) from error
    if code == "RequestTimeTooSkewed":
        raise StoreUnavailable(f"this machine's clock is too far from the store's: set it ({text})") from error
    if code in _CREDENTIALS:
        names = f"{places.KEY_ID} and {places.SECRET}"
        raise StoreRefused(f"{bucket.place} does not know these credentials: correct {names} ({text})") from error
    if status in (401, 403):
        raise StoreRefused(
            f"the key of {places.KEY_ID} may not do this in the bucket {bucket.name}: let it read, write, delete and "
            f"list there ({text})"
        ) from error
    raise StoreUnavailable(f"{bucket.place} answered {text}") from error


def _cause(error: Exception) -> str:
    """Return the first line of the error."""
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


BODILESS = frozenset({204, 304})
TAGGED = frozenset({"GetObject", "PutObject", "UploadPart"})  # operations whose success has an ETag

_ETAG = re.compile(r'(W/)?"[^"]+"')
_LENGTH = re.compile(r"[0-9]+")


def why_incomplete(operation: str, status: int, headers: Mapping[str, str], received: int | None) -> str | None:
    """Return why the response is incomplete, else None. ``headers``: case-insensitive. ``received``: bytes of the
    body; None: not read yet.

    Python's HTTP client treats the end of a connection as the end of the head. Headers are then missing or cut, and the
    body seems empty: an empty listing would mean "surely absent". Neither it nor boto3 compares the length of such a
    body with the Content-Length."""
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
