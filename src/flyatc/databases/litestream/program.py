"""The litestream program: where it is, whether it is one that we can drive, and the environment it gets."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from flyatc.kit.errors import FlyatcError

OLDEST = (0, 5, 17)  # the first whose control socket tells how far each database was read
PATIENCE = 10.0  # s; to tell its version

# Soft limits for Go's heap. Measured: a gigabyte is restored in 90 MB instead of 139, no slower. The one which streams
# needs 0.4 MB a database: its limit only keeps it from growing where it would not have to.
FOR_RESTORES, FOR_STREAMS = "64MiB", "256MiB"

# AWS_CA_BUNDLE breaks every use of S3 in litestream 0.5 ("WithTransportOptions"): SSL_CERT_FILE does what it is for.
_KEPT = {"PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOMEMLIMIT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
_DROPPED = {"AWS_CA_BUNDLE"}


class LitestreamMissing(FlyatcError):
    """There is none, or none that can be used: says what to do."""


def find(configured: str | None, environ: Mapping[str, str]) -> Path:
    """``configured`` if it is told, else from PATH, else beside our interpreter, where pip puts it.

    Raises LitestreamMissing."""
    if configured is not None:
        if os.access(configured, os.X_OK) and Path(configured).is_file():
            return Path(configured)
        raise LitestreamMissing(f"storage.litestream: {configured} is not a program: name the litestream to use")
    beside = Path(sys.prefix, "bin")
    found = shutil.which("litestream", path=os.pathsep.join((environ.get("PATH", os.defpath), str(beside))))
    if found is None:
        raise LitestreamMissing(
            "storage.mode: litestream needs the litestream program, which is neither on PATH nor beside Python: "
            "pip install 'flyatc[litestream]', or name it as storage.litestream"
        )
    return Path(found)


def check(program: Path) -> str:
    """Its version. Blocking. Raises LitestreamMissing where it is too old, or does not answer."""
    try:
        answer = subprocess.run([program, "version"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise LitestreamMissing(f"{program} cannot be run: {error}") from error
    told = re.match(r"v?(\d+)\.(\d+)\.(\d+)", answer.stdout.strip())
    if told is None:
        raise LitestreamMissing(f"{program} does not tell its version: is it litestream?")
    if tuple(map(int, told.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise LitestreamMissing(
            f"{program} is litestream {told[0]}; {oldest} or newer is needed: pip install -U 'flyatc[litestream]'"
        )
    return told[0]


def environment(environ: Mapping[str, str], memory: str) -> dict[str, str]:
    """What litestream gets of ours: the credentials of the store, and nothing of the apps'. $GOMEMLIMIT wins."""
    kept = {
        name: value
        for name, value in environ.items()
        if (name.startswith("AWS_") or name.upper() in _KEPT) and name not in _DROPPED
    }
    return {"GOMEMLIMIT": memory} | kept
