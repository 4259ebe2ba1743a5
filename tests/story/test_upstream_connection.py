"""A connection to an app: a head that does not end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.warm_path import REQUEST, RESPONSE, WarmPath
from flyatc.wire import upstream_connection


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[WarmPath]:
    one = WarmPath(tmp_path)
    await one.start("u")
    yield one
    await one.close()


async def test_a_head_that_does_not_end_is_given_up_after_a_while(
    path: WarmPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_connection, "HEAD_SECONDS", 0.05)
    path.request(REQUEST % b"u")
    path.respond(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(3):  # a few octets at a time do not help
        await asyncio.sleep(0.02)
        path.respond(b"a")
    await asyncio.sleep(0.05)
    assert path.client.last.startswith(b"HTTP/1.1 502 ")
    assert b"only a part of a response's head within 0.05 s" in path.log.journal.since(0)[-1][2]


async def test_the_wait_for_a_head_ends_with_it(path: WarmPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_connection, "HEAD_SECONDS", 0.05)
    path.request(REQUEST % b"u")
    path.respond(RESPONSE[:30])
    path.respond(RESPONSE[30:-1])
    await asyncio.sleep(0.1)  # the rest of the body has all the time
    path.respond(RESPONSE[-1:])
    assert b'"status":200' in path.log.journal.since(0)[-1][2]
