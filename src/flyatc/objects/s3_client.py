"""The bucket's client, made when it is first needed, and the one place where the SDK's errors become ours.

boto3 costs a quarter of a second and 40 MB: it is imported in the thread which makes the first request.
"""

import contextlib
import email.utils
import functools
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NoReturn, TypedDict

from flyatc.config import sections as places
from flyatc.config.sections import Bucket
from flyatc.objects import s3_responses
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
HURRIED_SHARE = 0.45  # of a hurried call's time, for each of connecting and an answer; the rest is for all else


class Clients:
    """``retrying`` repeats what failed; ``once`` never does: a conditional write whose answer was lost and which is
    then repeated is refused because of itself, and nobody could tell."""

    def __init__(self, bucket: Bucket, environ: Mapping[str, str], *, hurried: float | None) -> None:
        self.bucket = bucket
        self._environ, self._hurried = environ, hurried is not None
        self._connect, self._read = CONNECT_SECONDS, READ_SECONDS
        if hurried is not None:
            self._connect = self._read = HURRIED_SHARE * hurried
        self._made: tuple[S3Client, S3Client] | None = None
        self._making = threading.Lock()  # several threads may come first

    @property
    def made(self) -> bool:
        return self._made is not None

    def make(self) -> None:
        """Before the first request, which would do it too. Raises StoreRefused."""
        self._both()

    def replace(self) -> None:
        """A call hangs: the next one makes new clients, and waits for nothing that the old ones hold."""
        self._made, self._making = None, threading.Lock()

    @property
    def retrying(self) -> "S3Client":
        return self._both()[0]

    @property
    def once(self) -> "S3Client":
        return self._both()[1]

    def close(self) -> None:
        """Its connections; another request would open new ones."""
        if (made := self._made) is not None:
            for client in set(made):
                client.close()

    def _both(self) -> "tuple[S3Client, S3Client]":
        if (made := self._made) is not None:
            return made
        with self._making, translate_errors(self.bucket):  # it reads the files of Amazon's tools, if there are any
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
                max_pool_connections=12,  # as many as there are threads
                tcp_keepalive=True,
                request_checksum_calculation="when_supported",
                response_checksum_validation="when_required",  # lengths are checked here, contents by who asked
            ),
        )
        client.meta.events.register_last("before-call.s3", _without_expect)
        client.meta.events.register("before-parse.s3", _whole)
        if self.bucket.on_tigris:
            client.meta.events.register("before-call.s3", _consistent)
        return client


@functools.cache
def _session() -> "boto3.Session":
    """One for all clients: it holds what boto3 knows of S3, 10 MB."""
    import boto3

    return boto3.Session()


def _without_expect(params: dict[str, dict[str, str]], **_: object) -> None:
    """No ``Expect: 100-continue``: botocore loops for ever where the connection ends within the interim response."""
    params["headers"].pop("Expect", None)


def _whole(response_dict: "_Response", operation_model: "OperationModel", **_: object) -> None:
    """Raises StoreUnavailable."""
    from botocore.response import StreamingBody

    body = response_dict["body"]
    came = len(body) if isinstance(body, bytes) else None
    found = s3_responses.flaw(operation_model.name, response_dict["status_code"], response_dict["headers"], came)
    if found is not None:
        if isinstance(body, StreamingBody):
            body.close()
        raise StoreUnavailable(f"the store's answer {found}: the connection ended too soon")


def _consistent(params: dict[str, dict[str, str]], **_: object) -> None:
    """Asks Tigris' leader, not a copy in this region, which may be behind."""
    params["headers"]["X-Tigris-Consistent"] = "true"


def date(metadata: "ResponseMetadataTypeDef") -> float:
    """When the store answered: Unix time, by its own clock. Raises StoreUnavailable."""
    try:
        return email.utils.parsedate_to_datetime(metadata["HTTPHeaders"]["date"]).timestamp()
    except (KeyError, ValueError) as error:
        raise StoreUnavailable("the store's answer has no Date: what stands between us and it?") from error


@contextlib.contextmanager
def translate_errors(bucket: Bucket) -> Iterator[None]:
    """What the SDK raises becomes Absent, ConditionFailed, StoreRefused or StoreUnavailable."""
    from botocore.exceptions import BotoCoreError, ClientError, SSLError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        _answered(bucket, error)
    except SSLError as error:
        raise StoreRefused(f"{bucket.place} shows a certificate that is not trusted: {_cause(error)}") from error
    except (BotoCoreError, HTTPError) as error:
        doubtful = places.ENDPOINTS[0] if bucket.endpoint else f"{places.REGIONS[0]} ({bucket.region})"
        raise StoreUnavailable(f"{bucket.place} does not answer: {_cause(error)}; is {doubtful} right?") from error


def _answered(bucket: Bucket, error: "ClientError") -> NoReturn:
    said = error.response.get("Error", {})
    word, status = said.get("Code", ""), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    told = f"{status} {word}: {said.get('Message', '')}"[:300]
    if word == "NoSuchKey":  # in so many words: any other 404 may come from anybody
        raise Absent("the store has no such key") from error
    if word == "NoSuchBucket":
        what = f"{bucket.place} has no bucket {bucket.name}: create it, or correct storage.url or BUCKET_NAME"
        raise StoreRefused(what) from error
    if status == 412:
        raise ConditionFailed("somebody else has written it") from error
    if word in _REGION or status in (301, 307):
        raise StoreRefused(
            f"the bucket {bucket.name} is not in the region {bucket.region}: correct AWS_REGION or "
            f"AWS_ENDPOINT_URL_S3 ({told})"
        ) from error
    if word == "RequestTimeTooSkewed":
        raise StoreUnavailable(f"this machine's clock is too far from the store's: set it ({told})") from error
    if word in _CREDENTIALS:
        names = f"{places.KEY_ID} and {places.SECRET}"
        raise StoreRefused(f"{bucket.place} does not know these credentials: correct {names} ({told})") from error
    if status in (401, 403):
        raise StoreRefused(
            f"the key of {places.KEY_ID} may not do this in the bucket {bucket.name}: let it read, write, delete and "
            f"list there ({told})"
        ) from error
    raise StoreUnavailable(f"{bucket.place} answered {told}") from error


def _cause(error: Exception) -> str:
    """One line, without the traceback of three libraries."""
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
