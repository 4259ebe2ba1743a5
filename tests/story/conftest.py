"""Helpers for what each story has in common: when it ends, all is given back and nothing is left behind."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from fakes.ownership_store import FakeMachine, FakeStore
from fakes.stage import Stage


@pytest.fixture(autouse=True)
async def curtain() -> AsyncIterator[None]:
    """Freeze the objects of earlier tests before each story: the scheduler collects garbage after runs."""
    gc.freeze()
    yield
    while Stage.open:
        await Stage.open.pop().strike()
    await FakeMachine.end_all()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()
