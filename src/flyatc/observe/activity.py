"""The last day of each tenant in slots of five minutes: responses, their times, and memory.

While a slot is open, the request path counts into ``Counters.times`` and nothing is done here. At its end each active
tenant gets a record of WORDS numbers; a slot without requests and without a running app takes no memory. Pure.
"""

import itertools
import math
from array import array
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import msgspec
from msgspec import Struct

from flyatc.observe.counters import DURATIONS, FAILED, MOST_TIMED, OTHERS, Counters

SLOT = 300  # s
SLOTS = 288  # a day
WORDS = 6  # of a record: number of the slot, responses, of those 5xx, median and 99 % in µs, memory in KB
MOST_TENANTS = MOST_TIMED  # 7 KB each, if it is active all day; the least recently active one is dropped
MOST_BYTES = 16 << 20  # of the file that ``restore`` accepts
Words: TypeAlias = "array[int]"  # records, or one
_LARGEST = 2**32 - 1
_MICRO = 1_000_000


class Slot(Struct, frozen=True):
    """Five minutes of a tenant. ``at``: Unix time of their begin; ``requests``: responses, without WebSockets;
    ``errors``: those of them with status 5xx. ``median``, ``slow``: half, and 99 of 100, were sent to the last byte
    within so many seconds, accurate to a tenth; ``memory``: bytes of its processes at most."""

    at: int
    requests: int
    errors: int
    median: float
    slow: float
    memory: int


def within(times: Sequence[int], part: float) -> float:
    """Return the seconds in which ``part`` (0 to 1) of the responses were sent: ``times`` as in Counters; 0: none."""
    left = math.ceil(sum(times[:FAILED]) * part)
    for step, count in enumerate(times[:FAILED] if left else ()):
        left -= count
        if left <= 0:
            lower, upper = DURATIONS[max(0, step - 1)], DURATIONS[min(step, len(DURATIONS) - 1)]
            return math.sqrt(lower * upper)
    return 0.0


def _record(number: int, times: Sequence[int] | None, memory: int) -> Words:
    if times is None:
        return array("I", (number, 0, 0, 0, 0, min(memory >> 10, _LARGEST)))
    found = sum(times[:FAILED]), times[FAILED], *(round(within(times, part) * _MICRO) for part in (0.5, 0.99))
    return array("I", (number, *(min(one, _LARGEST) for one in (*found, memory >> 10))))


def _joined(one: Words, other: Words) -> Words:
    """Return the sum of two records of a slot, such as before and after a restart. The times are those of the one with
    more responses."""
    many = max(one, other, key=lambda record: record[1])
    counts = (min(one[at] + other[at], _LARGEST) for at in (1, 2))
    return array("I", (one[0], *counts, many[3], many[4], max(one[5], other[5])))


def _with(past: "Words | None", record: Words) -> Words:
    """Return the records of the day that ends with ``record``."""
    kept = past[:] if past is not None else array("I")
    while kept and kept[-WORDS] > record[0]:  # of a clock that was ahead
        del kept[-WORDS:]
    if kept and kept[-WORDS] == record[0]:
        record = _joined(kept[-WORDS:], record)
        del kept[-WORDS:]
    while kept and kept[0] <= record[0] - SLOTS:
        del kept[:WORDS]
    return kept + record


class _Saved(Struct):
    v: int
    tenants: dict[str, bytes]  # the least recently active first


class Activity:
    """``now``: Unix time, when it begins; later calls have it too, and it may go back."""

    def __init__(self, counters: Counters, now: float) -> None:
        self._counters = counters
        self._past: dict[str, Words] = {}  # tenant → records in order; the least recently active first
        self._memory: dict[str, int] = {}  # tenant → bytes in the open slot
        self._open = int(now // SLOT)

    def use(self, tenant: str, memory: int) -> None:
        """Note that the processes of a tenant have so many bytes now."""
        if tenant in self._memory or len(self._memory) < MOST_TENANTS:
            self._memory[tenant] = max(memory, self._memory.get(tenant, 0))

    def look(self, now: float) -> bool:
        """Close the open slot if it has ended; return whether it was. To be called several times in a slot."""
        if int(now // SLOT) == self._open:
            return False
        for tenant, record in self._opened().items():
            self._past[tenant] = _with(self._past.pop(tenant, None), record)  # it becomes the last of the dict
        self._counters.forget_times()
        self._memory.clear()
        self._open = int(now // SLOT)
        self._forget()
        return True

    def _opened(self) -> dict[str, Words]:
        """The records of the open slot."""
        times = self._counters.times
        names = [name for name in dict.fromkeys((*times, *self._memory)) if name not in ("", OTHERS)]
        return {name: _record(self._open, times.get(name), self._memory.get(name, 0)) for name in names}

    def _forget(self) -> None:
        """Drop tenants beyond the bound, and those that were not active for a day."""
        for tenant in list(self._past):
            if len(self._past) <= MOST_TENANTS and self._past[tenant][-WORDS] > self._open - SLOTS:
                break
            del self._past[tenant]

    def of(self, tenant: str, now: float) -> list[Slot]:
        """The slots of the last day in which a tenant was active, with the open one."""
        past = self._past.get(tenant) or array("I")
        if (opened := self._opened().get(tenant)) is not None:
            past = _with(past, opened)
        last = int(now // SLOT)
        return [_slot(one) for one in _records(past) if last - SLOTS < one[0] <= last]

    # --- on disk ---

    def saved(self) -> bytes:
        """All records, with those of the open slot, for ``restore``. Empty: there are none."""
        opened = self._opened()
        past = {tenant: past for tenant, past in self._past.items() if tenant not in opened}
        past |= {tenant: _with(self._past.get(tenant), record) for tenant, record in opened.items()}
        octets = {tenant: records.tobytes() for tenant, records in past.items()}
        return msgspec.msgpack.encode(_Saved(1, octets)) if octets else b""

    def restore(self, saved: bytes) -> None:
        """Put the records of an earlier daemon before those of this one. What is not valid is left out."""
        try:
            found = msgspec.msgpack.decode(saved, type=_Saved)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if found.v != 1:
            return
        newer, self._past = self._past, {}
        for tenant, octets in found.tenants.items():
            past = array("I", octets[: len(octets) // 4 * 4])
            if _valid(past):
                self._past[tenant] = past
        for tenant, past in newer.items():
            for record in _records(past):
                self._past[tenant] = _with(self._past.pop(tenant, None), record)
        self._forget()


def _records(past: Words) -> Iterator[Words]:
    return (past[at : at + WORDS] for at in range(0, len(past), WORDS))


def _valid(past: Words) -> bool:
    numbers = past[::WORDS]
    ordered = all(one < two for one, two in itertools.pairwise(numbers))
    return 0 < len(past) <= SLOTS * WORDS and len(past) % WORDS == 0 and ordered


def _slot(record: Words) -> Slot:
    number, requests, errors, median, slow, memory = record
    return Slot(number * SLOT, requests, errors, median / _MICRO, slow / _MICRO, memory << 10)
