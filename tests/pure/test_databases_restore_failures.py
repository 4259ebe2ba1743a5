"""Causes of failed restores. The messages are litestream 0.5.17's own, made with the real program."""

import errno

import pytest

from flyatc.databases.decisions import restore_failures
from flyatc.databases.decisions.restore_failures import Cause, Room
from flyatc.kit.types import Exit

HERE = "/data/t/.flyatc/restore-x/app.sqlite3"
FREE = 1 << 30
LTX = "ltx/0/0000000000000001-0000000000000001.ltx"
AGAIN = f"max retries exceeded reading ltx file (level=0, offset=0): open ltx file /store/{LTX}: "
S3 = "created at: operation error S3: ListObjectsV2, "
AWAY = f"{S3}exceeded maximum number of attempts, 10, https response error StatusCode: 0, request send failed: "
END = "decode database: unexpected error decoding after end of database: close reader 0: "
OF_S3 = "operation error S3: GetObject, https response error StatusCode: "

SAID = [
    (f"decode database: write page 513: write {HERE}/database.tmp: no space left on device", Cause.FULL),
    (f"create parent directory: mkdir {HERE}: no space left on device", Cause.FULL),
    (f"decode database: write page 513: write {HERE}/database.tmp: disk quota exceeded", Cause.QUOTA),
    (f"decode database: write page 257: write {HERE}/database.tmp: file too large", Cause.QUOTA),
    (f"create parent directory: mkdir {HERE}: read-only file system", Cause.READ_ONLY),
    (f"cannot access output path: stat {HERE}/database: permission denied", Cause.DENIED),
    (f"decode database: write page 3: write {HERE}/database.tmp: input/output error", Cause.BROKEN),
    (f"{AGAIN}open /store/{LTX}: too many open files", Cause.FILES),
    (f"{AGAIN}open /store/{LTX}: permission denied", Cause.STORE_REFUSED),
    ("created at: open /store/ltx/9: permission denied", Cause.STORE_REFUSED),
    (f"decode database: read /store/{LTX}: input/output error", Cause.STORE_REFUSED),
    (f"{S3}https response error StatusCode: 403, api error SignatureDoesNotMatch: no", Cause.STORE_REFUSED),
    (f"{S3}https response error StatusCode: 404, NoSuchBucket: ", Cause.STORE_REFUSED),
    (f"{S3}get credentials: failed to refresh cached credentials, no EC2 IMDS role found", Cause.STORE_REFUSED),
    (f"{AWAY}dial tcp 127.0.0.1:1: connect: connection refused", Cause.STORE_AWAY),
    (f"{AWAY}dial tcp: lookup nowhere.invalid on 10.0.0.1:53: no such host", Cause.STORE_AWAY),
    (f"{OF_S3}503, api error SlowDown: no space left on device", Cause.STORE_REFUSED),
    (f"{OF_S3}500, api error InternalError: ", Cause.STORE_AWAY),
    ("decode database: max retries exceeded reading ltx file (level=9): unexpected EOF", Cause.STORE_AWAY),
    (f"{AGAIN}open /store/{LTX}: no such file or directory", Cause.STORE_AWAY),
    (f"{END}read page index: read page index size: unexpected EOF", Cause.DAMAGED),
    ("decode database: decode page 1004: read compressed data: unexpected EOF", Cause.DAMAGED),
    (f"{END}file checksum mismatch", Cause.DAMAGED),
    ("invalid ltx file: level=0 min=1 max=1 has size 0 bytes (minimum 100)", Cause.DAMAGED),
    ("decode database: decode header: decode header for input 0: unmarshal header: invalid LTX file", Cause.DAMAGED),
    ("no matching backup files available", Cause.DAMAGED),
    ("timestamp does not exist", Cause.NO_SUCH_TIME),
    ("something which no one has seen yet", Cause.UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(("said", "cause"), SAID, ids=[said[-40:] for said, _ in SAID])
def test_litestreams_messages_are_classified(said: str, cause: Cause) -> None:
    assert restore_failures.of_litestream([f"Error: {said}"], Exit(1), HERE, FREE) is cause


def test_only_a_damaged_copy_is_a_reason_for_an_earlier_state() -> None:
    assert {cause for cause in Cause if not cause.passes} == {Cause.DAMAGED, Cause.NO_SUCH_TIME}


@pytest.mark.parametrize("ended", [Exit(None, 9), Exit(137)])
def test_a_killed_litestream_proves_nothing_about_the_replica(ended: Exit) -> None:
    assert restore_failures.of_litestream([], ended, HERE, FREE) is Cause.KILLED


@pytest.mark.parametrize("first", ["fatal error: runtime: out of memory", "runtime: cannot allocate memory"])
def test_go_out_of_memory_is_seen_in_its_first_lines(first: str) -> None:
    said = [first, "", "goroutine 1 [running]:", "runtime.goexit({})", "created by runtime.createfing in goroutine 1"]
    assert restore_failures.of_litestream(said, Exit(2), HERE, FREE) is Cause.MEMORY


def test_a_disk_without_room_explains_what_has_no_other_explanation() -> None:
    assert restore_failures.of_litestream(["Error: who knows"], Exit(1), HERE, 100) is Cause.FULL
    assert restore_failures.of_litestream(["Error: decode database: unexpected EOF"], Exit(1), HERE, 100) is Cause.FULL


def test_a_response_of_the_store_cannot_pass_for_the_local_disk() -> None:
    said = ["Error: StatusCode: 500, api error Hostile: no space left on device"]
    assert restore_failures.of_litestream(said, Exit(1), HERE, FREE) not in (Cause.FULL, Cause.DAMAGED)


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENOSPC, Cause.FULL),
        (errno.EDQUOT, Cause.QUOTA),
        (errno.EROFS, Cause.READ_ONLY),
        (errno.EACCES, Cause.DENIED),
        (errno.ENOMEM, Cause.MEMORY),
        (errno.EMFILE, Cause.FILES),
        (errno.EIO, Cause.BROKEN),
        (None, Cause.BROKEN),
    ],
)
def test_an_errno_has_its_cause(number: int | None, cause: Cause) -> None:
    assert restore_failures.of_error(OSError(number, "words") if number else OSError("words")) is cause


def test_the_advice_names_the_disk_and_both_sizes() -> None:
    room = Room("/data", "/data/t", 3 << 20, 10 << 20)
    text = restore_failures.advice(Cause.FULL, "litestream says: no space", room)
    assert "3.0 MB are free on /data, about 10.0 MB are needed for /data/t" in text
    assert "Free some space" in text
    assert "tried again" in text


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause.passes])
def test_each_cause_that_passes_says_what_to_do(cause: Cause) -> None:
    text = restore_failures.advice(cause, "words", None)
    assert "words" in text
    assert text.count(". ") >= 2, text
