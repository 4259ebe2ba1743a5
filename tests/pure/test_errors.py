"""The message for an address that cannot be listened at."""

import errno
import os

import pytest

from flyatc.kit.errors import cannot_listen


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EADDRINUSE, "Address already in use: end the program that listens there, or set PORT"),
        (errno.EACCES, "Permission denied: ports below 1024 need root or CAP_NET_BIND_SERVICE, or set PORT"),
        (errno.EADDRNOTAVAIL, "Cannot assign requested address: name an address of this machine, or set PORT"),
        (errno.EINVAL, "Invalid argument: set PORT"),
    ],
)
def test_each_reason_comes_with_what_to_do(number: int, text: str) -> None:
    error = OSError(number, os.strerror(number))
    assert cannot_listen("*:80", error, ", or set PORT") == f"cannot listen on *:80: {text}"


def test_nothing_is_advised_where_nothing_is_known() -> None:
    assert cannot_listen("a:1", OSError(errno.EINVAL, "Invalid argument")) == "cannot listen on a:1: Invalid argument"
