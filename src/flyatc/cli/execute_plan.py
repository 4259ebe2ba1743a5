"""Decisions of ``flyatc exec`` for many tenants: which one is next, and what a journal leaves to do. Pure.

The journal has one JSON object a line: a Head, then a Result for each tenant that was tried. A later line about a
tenant counts; a cut last line does not. A tenant without a result may have been tried: the daemon then knows if it
succeeded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

DONE, FAILED, ELSEWHERE, INTERRUPTED = "done", "failed", "elsewhere", "interrupted"


class Head(Struct, frozen=True, kw_only=True):
    """A run. ``scope``: its user; None: all. ``rehearse``: on copies. ``tenants``: in their order."""

    run: str
    command: list[str]
    scope: str | None
    undo: bool
    rehearse: bool = False
    tenants: list[str]
    v: int = 1


class Result(Struct, frozen=True, kw_only=True):
    """The outcome for a tenant. ``state``: done, failed, elsewhere (its user belongs to ``machine``), interrupted."""

    tenant: str
    state: str
    seconds: float = 0.0
    code: int | None = None
    error: str | None = None
    machine: str | None = None
    output: str | None = None  # file


class Unreadable(ValueError):
    """The journal is none of ours, or of another version."""


@dataclass(frozen=True)
class Journal:
    head: Head
    results: dict[str, Result]

    @property
    def left(self) -> list[str]:
        """The tenants to try, in order: all that were not done. Those elsewhere may belong to this machine by now."""
        return [one for one in self.head.tenants if one not in self.results or self.results[one].state != DONE]

    @property
    def summary(self) -> str:
        """Why it goes on as it does, for the operator."""
        states = Counter(one.state for one in self.results.values())
        tried = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        return f"{len(self.head.tenants)} tenants: {tried or 'none tried'}; {len(self.left)} to do"


def read(text: bytes) -> Journal:
    """Read a journal. Raises Unreadable."""
    first, *lines = text.split(b"\n")
    try:
        head = msgspec.json.decode(first, type=Head)
        results = {one.tenant: one for one in (msgspec.json.decode(line, type=Result) for line in lines[:-1])}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(str(error)) from error
    if head.v != 1:
        raise Unreadable(f"version {head.v}")
    return Journal(head, results)


@dataclass(frozen=True)
class Start:
    tenant: str
    reason: str


@dataclass(frozen=True)
class Wait:
    reason: str


@dataclass(frozen=True)
class Finish:
    reason: str


@dataclass
class Progress:
    """Where a run is. ``waiting``: in order. ``stopped``: why no other tenant is started. ``interrupted``: by the
    operator."""

    waiting: list[str]
    running: set[str] = field(default_factory=set)
    results: list[Result] = field(default_factory=list)
    stopped: str | None = None
    interrupted: bool = False

    def interrupt(self) -> None:
        self.interrupted, self.stopped = True, self.stopped or "it was interrupted"

    def ended(self, result: Result, *, keep_going: bool) -> None:
        self.running.discard(result.tenant)
        self.results.append(result)
        if result.state == INTERRUPTED:
            self.stopped = self.stopped or "it was interrupted"
        elif result.state == FAILED and not keep_going:
            self.stopped = self.stopped or f"{result.tenant} failed"


def next_step(now: Progress, parallel: int) -> Start | Wait | Finish:
    """Decide what comes next. What runs is never left alone: it ends, and counts, before the run finishes."""
    if now.stopped is not None or not now.waiting:
        if now.running:
            return Wait(f"{len(now.running)} still run")
        return Finish(now.stopped or "all were tried")
    if len(now.running) >= parallel:
        return Wait(f"{parallel} run at the same time")
    return Start(now.waiting[0], f"{len(now.running)} of {parallel} run")


def failures(results: Sequence[Result]) -> list[Result]:
    return [one for one in results if one.state in (FAILED, INTERRUPTED)]
