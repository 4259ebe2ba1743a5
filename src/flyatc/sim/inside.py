"""Commands run inside a machine, for exec: https://fly.io/docs/machines/api/machines-resource/."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from flyatc.kit.errors import FlyatcError

LARGEST = 1 << 20  # octets that are told of each stream


class Ran(Struct):
    """200 even where it failed."""

    exit_code: int
    stdout: str
    stderr: str


async def run(command: Sequence[str], environ: Mapping[str, str], seconds: float) -> Ran:
    """Raises FlyatcError where it cannot be run, or does not end in time."""
    path = f"{Path(sys.executable).parent}:{environ.get('PATH', os.defpath)}"  # where an image has flyatc
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**environ, "PATH": path},
            start_new_session=True,
        )
    except OSError as error:
        raise FlyatcError(f"failed to run command: {error}") from error
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise FlyatcError(f"failed to run command: deadline_exceeded after {seconds:g}s") from error
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Ran(process.returncode or 0, *(told[:LARGEST].decode("utf-8", "replace") for told in (out, err)))
