"""The report of use, with a store that does not answer."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from flyatc.daemon import usage_report
from flyatc.daemon.wiring import Parts
from flyatc.objects.store import Stored, StoreUnavailable


class Silent:
    """A store that answers after ``seconds``."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self._seconds, self._error = seconds, error

    async def list(self, prefix: str) -> tuple[Stored, ...]:
        await asyncio.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        return (Stored(f"{prefix}a", 5, "", 0.0), Stored(f"{prefix}b", 7, "", 0.0))


def parts(store: Silent | None) -> Parts:
    return cast("Parts", SimpleNamespace(store=store))


async def test_the_bytes_of_a_user_are_those_of_all_its_objects() -> None:
    assert await usage_report._stored(parts(Silent(0)), ["ann", "bob"]) == ({"ann": 12, "bob": 12}, [])
    assert await usage_report._stored(parts(None), ["ann"]) == ({"ann": 0}, [])


async def test_a_store_that_is_away_is_a_note() -> None:
    found, [note] = await usage_report._stored(parts(Silent(0, StoreUnavailable("the bucket is away"))), ["ann"])
    assert found == {}
    assert note == "The bytes in the store are not known, and not in the sum: the bucket is away."


async def test_a_store_that_hangs_is_a_note_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_report, "STORE_SECONDS", 0.05)
    found, [note] = await usage_report._stored(parts(Silent(3600)), ["ann", "bob"])
    assert found == {}
    assert "has not answered within 0.05 s" in note
