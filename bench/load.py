"""Visitors: many requests by wrk, many open connections, and one request with its first byte timed."""

import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Load:
    """What wrk saw. Latencies in microseconds. ``refused``: of the errors, answers with status 400 or above."""

    requests: int
    octets: int
    seconds: float
    errors: int
    refused: int
    p50: float
    p99: float


def press(url: str, *, seconds: int, connections: int, cores: Set[int], headers: Sequence[str] = ()) -> Load:
    """wrk with a browser's headers, one thread, on ``cores``; it knows whole seconds only. ``headers``: browser.lua.

    Raises RuntimeError when it says nothing."""
    script = Path(__file__).with_name("browser.lua")
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "10s",
        "-s",
        str(script),
        url,
        "--",
        *headers,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores), check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"wrk gave no result: {(done.stdout + done.stderr).strip()}")
    said = json.loads(lines[-1])
    return Load(
        requests=said["requests"], octets=said["octets"], seconds=said["microseconds"] / 1e6,
        errors=said["errors"], refused=said["refused"], p50=said["p50"], p99=said["p99"],
    )  # fmt: skip


async def open_upgrades(port: int, count: int) -> list[asyncio.StreamWriter]:
    """``count`` upgraded connections, each of which has echoed once. Raises RuntimeError on any other answer."""
    request = (
        f"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    writers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(f"an upgrade was answered with {head[:60]!r}")
        writer.write(b"echo")
        await asyncio.wait_for(reader.readexactly(4), 15)
    return writers


def status(port: int, path: str) -> int:
    """Asks once."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def first_byte(port: int, path: str, timeout: float = 30) -> int:
    """Asks once; the moment of the first byte (CLOCK_MONOTONIC, ns). Raises RuntimeError unless it is a 200."""
    with socket.create_connection(("127.0.0.1", port)) as visitor:
        visitor.settimeout(timeout)
        visitor.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = visitor.recv(4096)
        moment = time.monotonic_ns()
    if b" 200 " not in answer.split(b"\r\n")[0]:
        raise RuntimeError(f"{path} was answered with {answer[:60]!r}")
    return moment
