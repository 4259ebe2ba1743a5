"""Litestream's machines: one fixture for all files of this lane."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.streams import Streamers
from flyatc.databases.litestream import replication


@pytest.fixture
async def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streamers]:
    """Machines in litestream mode on a folder as the store, whose streams are checked every 0.1 s instead of 1 s."""
    monkeypatch.setattr(replication, "EVERY", 0.1)
    made = Streamers.on_folder(tmp_path)
    yield made
    await made.close()
