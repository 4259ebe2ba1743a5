"""Incomplete responses of S3."""

import pytest

from flyatc.objects.s3_client import why_incomplete

LENGTH, ETAG, DATE = {"content-length": "3"}, {"etag": '"a"'}, {"last-modified": "Sun, 29 Nov 2026 17:44:31 GMT"}
CHUNKED = {"transfer-encoding": "chunked"}


@pytest.mark.parametrize(
    ("operation", "status", "headers", "came"),
    [
        ("GetObject", 200, LENGTH | ETAG | DATE, None),
        ("GetObject", 206, LENGTH | ETAG | DATE, None),
        ("PutObject", 200, {"content-length": "0"} | ETAG, 0),
        ("PutObject", 200, {"content-length": "0", "etag": 'W/"a"'}, 0),
        ("ListObjectsV2", 200, CHUNKED, 500),
        ("ListObjectsV2", 200, LENGTH, 3),
        ("DeleteObject", 204, {}, 0),
        ("PutObject", 412, LENGTH, 3),
        ("GetObject", 404, CHUNKED, 3),
    ],
)
def test_a_whole_response_has_no_flaw(operation: str, status: int, headers: dict[str, str], came: int | None) -> None:
    assert why_incomplete(operation, status, headers, came) is None


@pytest.mark.parametrize(
    ("operation", "status", "headers", "came"),
    [
        ("ListObjectsV2", 200, {}, 0),
        ("ListObjectsV2", 200, LENGTH, 0),
        ("ListObjectsV2", 200, {"content-length": ""}, 0),
        ("ListObjectsV2", 200, {"content-length": "+3"}, 3),
        ("ListObjectsV2", 200, {"transfer-encoding": "chunke"}, 0),
        ("GetObject", 200, CHUNKED | ETAG | DATE, None),
        ("GetObject", 200, LENGTH | DATE, None),
        ("GetObject", 200, LENGTH | ETAG, None),
        ("GetObject", 404, {}, 0),
        ("PutObject", 200, {"content-length": "0"}, 0),
        ("PutObject", 200, {"content-length": "0", "etag": '"071da'}, 0),
        ("PutObject", 412, {}, 0),
        ("UploadPart", 200, {"content-length": "0", "etag": '""'}, 0),
    ],
)
def test_a_response_that_was_cut_has_one(
    operation: str, status: int, headers: dict[str, str], came: int | None
) -> None:
    assert why_incomplete(operation, status, headers, came) is not None
