"""One call for all waiters, kept for a while, bounded."""

import asyncio

import pytest

from flyatc.kit.async_cache import AsyncCache

pytestmark = pytest.mark.looptime


class Oracle:
    """Answers after a second with how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None

    async def __call__(self, key: str) -> int:
        self.asked.append(key)
        await asyncio.sleep(1)
        if self.error is not None:
            raise self.error
        return len(self.asked)


async def test_one_call_serves_all_waiters_and_leaving_ends_only_the_own_wait() -> None:
    oracle = Oracle()
    recall = AsyncCache(oracle, lambda _: 10.0, 5)
    leaver = asyncio.ensure_future(recall.get("a"))  # noqa: TID251 - a visitor
    waiting = asyncio.gather(*(recall.get("a") for _ in range(20)))
    await asyncio.sleep(0.5)
    leaver.cancel()
    assert await waiting == [1] * 20
    assert oracle.asked == ["a"]


async def test_a_response_is_good_for_its_time_and_remembered_beyond() -> None:
    oracle = Oracle()
    recall = AsyncCache(oracle, lambda _: 10.0, 5)
    assert recall.fresh("a") is None
    assert await recall.get("a") == 1
    await asyncio.sleep(9.9)
    assert recall.fresh("a") == await recall.get("a") == 1
    await asyncio.sleep(0.2)
    assert recall.fresh("a") is None
    assert recall.last("a") == 1
    assert await recall.get("a") == 2
    recall.clear()
    assert recall.last("a") is None


async def test_the_oldest_make_room() -> None:
    recall = AsyncCache(Oracle(), lambda _: 10.0, 2)
    for key in "abc":
        await recall.get(key)
    assert [recall.last(key) for key in "abc"] == [None, 2, 3]


async def test_an_error_reaches_all_waiters_and_is_not_kept() -> None:
    oracle = Oracle()
    oracle.error = ValueError("no")
    recall = AsyncCache(oracle, lambda _: 10.0, 5)
    for result in await asyncio.gather(recall.get("a"), recall.get("a"), return_exceptions=True):
        assert result is oracle.error
    oracle.error = None
    assert await recall.get("a") == 2
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(recall.get("b"), 0.5)
    await asyncio.sleep(1)
    assert recall.fresh("b") == 3
