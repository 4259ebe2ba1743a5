"""The log into real pipes: nothing lost, no writer delayed, and always valid."""

import io
import json
import os
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from flyatc.observe import log as module
from flyatc.observe.log import Log
from slowness import SLOWNESS
from whole.daemon import eventually


def reported(octets: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in octets.splitlines()]


def test_the_last_event_is_written_before_the_log_closes() -> None:
    out = io.BytesIO()
    log = Log(out)
    for n in range(1000):
        log.event("info", f"number {n}")
    log.close()
    assert [line["msg"] for line in reported(out.getvalue())] == [f"number {n}" for n in range(1000)]


def test_nothing_that_an_app_or_a_client_wrote_is_a_command_for_the_terminal_that_shows_the_log() -> None:
    out = io.BytesIO()
    log = Log(out)
    log.output("ann", "stdout", "red \x9b31m, del \x7f, esc \x1b[31m")
    log.event("warning", "bad \x85", path="\x9d")
    log.close()
    assert out.getvalue().isascii()
    assert all(line.decode().isprintable() for line in out.getvalue().splitlines())
    assert reported(out.getvalue())[0]["msg"] == "red \x9b31m, del \x7f, esc \x1b[31m"
    assert reported(out.getvalue())[1]["path"] == "\x9d"


def test_a_pipe_made_non_blocking_from_outside_gets_every_line_whole() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    log = Log(os.fdopen(theirs, "wb", 0))
    for n in range(200):
        log.output("ann", "stdout", f"{n:05}" + "x" * 5000)  # a megabyte: many times what a pipe holds
    parts: list[bytes] = []
    reader = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(ours, 8192), b"")))
    reader.start()
    log.close(30)
    log._out.close()
    reader.join()
    os.close(ours)
    assert [line["msg"][:5] for line in reported(b"".join(parts))] == [f"{n:05}" for n in range(200)]


def test_a_reader_that_does_not_read_delays_no_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.2)
    ours, theirs = os.pipe()
    log = Log(os.fdopen(theirs, "wb", 0))
    while not log.crowded:
        log.output("ann", "stdout", "x" * 10_000)
    eventually(lambda: not log.crowded, 10, "patience ends")
    began = monotonic()
    for _ in range(3000):
        log.output("ann", "stdout", "x" * 10_000)  # beyond the bound: counted, not kept
    log.close(0.1)
    assert monotonic() - began < 10 * SLOWNESS
    parts: list[bytes] = []
    reader = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(ours, 1 << 16), b"")))
    reader.start()
    eventually(lambda: not log._writer.is_alive(), 20, "the writer ends when it is read at last")
    log._out.close()
    reader.join()
    os.close(ours)
    assert sum(map(len, parts)) < module.BACKLOG_BYTES + (1 << 18)  # and what a pipe holds


def test_lines_that_were_dropped_are_counted_once_it_is_read_again() -> None:
    gate = threading.Event()

    class Slow(io.BytesIO):
        def write(self, data: Any) -> int:
            gate.wait()
            return super().write(data)

    out = Slow()
    log = Log(out)
    for _ in range(2000):
        log.output("ann", "stdout", "x" * 10_000)
    gate.set()
    eventually(lambda: log._handed == log._written, 20, "all is written")
    log.close()
    lines = reported(out.getvalue())
    [dropped] = [line for line in lines if line["msg"].startswith("log lines dropped")]
    assert dropped["lines"] == 2000 - (len(lines) - 1) > 0


def test_a_client_that_left_ends_nothing() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    log = Log(os.fdopen(theirs, "wb", 0))
    log.event("info", "into the void")
    log.close()
    assert not log.crowded
    log._out.close()


def test_every_line_is_json_whatever_is_logged() -> None:
    out = io.BytesIO()
    log = Log(out)
    log.event("error", "a file", path="caf\udce9", folder=Path("/x"), error=OSError(28, "full"), tenant="ann")
    log.output("ann", "stderr", '\x00\x1b[2J\u2028\ufffd"\\')
    log.close()
    event, output = reported(out.getvalue())
    assert (event["msg"], event["path"], event["folder"], event["tenant"]) == ("a file", "caf?", "/x", "ann")
    assert (output["msg"], output["stream"]) == ('\x00\x1b[2J\u2028\ufffd"\\', "stderr")


def test_readable_text_for_a_file_has_no_colours() -> None:
    out = io.BytesIO()
    log = Log(out, text=True)
    log.event("info", "listening", on="*:3000")
    log.close()
    assert out.getvalue().split(b" ", 1)[1] == b"info    listening on=*:3000\n"
