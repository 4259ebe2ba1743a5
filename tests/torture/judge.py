"""Helpers for whether anything was lost, and whether two machines ever served at once. Pure.

A *life* is one run of an app, on one machine. A response (2xx) to a visitor is *acknowledged*; when it was committed is
read from the app's own log, on a clock that all processes share.

Two machines never serve at once: for each life, take the interval from its first to its last commit among those that
were acknowledged. Intervals of lives on different machines must not overlap, whichever tenants of the user they are
of: the user has one owner. Commits that were not acknowledged may overlap: an app that was stopped for long and goes on
commits what it had read before it can be killed, but the daemon lets no answer out; what was written is set aside.

No one writes beside the owner: rows which an app has written *by itself* (``own``: a background process, a burst) end
when another machine has taken over, but for what was committed while all processes of the machine stood still, or
within AWAKE seconds after that. Such a row counts as an acknowledged one: it may not be lost either.

Nothing is lost: every acknowledged row is in the final database; or in what was set aside, and then another machine
has taken over after the row was committed; or it is gone with a disk that was wiped after it. What is not in the final
database must not be in any version that was ever published, and must not have been older than the mode's bound when it
was taken over or wiped. Time in which the machine could not save does not count: it was stopped, or its way to the
store was cut."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

Row = tuple[str, str, int]  # tenant, client, number

BOUND = {"snapshot": 2.0, "litestream": 2.0, "sim": 2.0}  # s; of what a lost disk may take with it
BUSY = 10.0  # s; how much longer anything may take on a machine which runs ten of these
AWAKE = 3.0  # s; from the end of a stop of all processes until the apps are killed
UNDONE = 15.0  # s; from the end of a fault until the next save must have come through


@dataclass(frozen=True)
class Commit:
    """A line of the app's log."""

    row: Row
    machine: str
    life: str
    at: float


@dataclass(frozen=True)
class Wiped:
    machine: str
    at: float


@dataclass(frozen=True)
class Hindered:
    """The machine could not save."""

    machine: str
    since: float
    until: float


@dataclass(frozen=True)
class Stolen:
    """Machine ``by`` has taken the user over without being given it."""

    by: str
    epoch: int
    at: float


@dataclass
class Evidence:
    mode: str
    acknowledged: set[Row]
    commits: list[Commit]
    final: set[Row]
    aside: dict[str, set[Row]] = field(default_factory=dict)  # by where it is
    published: set[Row] = field(default_factory=set)  # rows of all versions that ever were the current one
    wiped: list[Wiped] = field(default_factory=list)
    hindered: list[Hindered] = field(default_factory=list)
    stolen: list[Stolen] = field(default_factory=list)
    own: set[Row] = field(default_factory=set)  # written by the apps themselves
    stopped: list[Hindered] = field(default_factory=list)  # all processes stood still
    owners: list[tuple[int, str]] = field(default_factory=list)  # (epoch, machine), as the daemons reported
    faults: list[str] = field(default_factory=list)  # what is wrong whatever the rows say

    def until(self, moment: float, final: set[Row], *, lost: str | None) -> "Evidence":
        """The same as far as it had happened by then, with what was restored from the store of that moment as
        ``final``. ``lost``: the machine whose disk is not to be counted on."""
        commits = [commit for commit in self.commits if commit.at < moment]
        rows = {commit.row for commit in commits}
        stolen = [one for one in self.stolen if one.at < moment]
        wiped = [one for one in self.wiped if one.at < moment]
        # What a machine had not sent when it was taken over is on its own disk, which the store does not have.
        wiped += [Wiped(name, one.at) for one in stolen for name in {c.machine for c in commits} - {one.by}]
        return replace(
            self,
            acknowledged=self.acknowledged & rows,
            own=self.own & rows,
            commits=commits,
            final=final,
            wiped=wiped if lost is None else [*wiped, Wiped(lost, moment)],
            stolen=stolen,
            faults=[],
        )


@dataclass(frozen=True)
class Verdict:
    rows: int
    aside: dict[str, int]  # acknowledged rows which are nowhere else, by where they are
    wiped: int  # acknowledged rows which went with a disk, within the bound
    faults: tuple[str, ...]


def judge(evidence: Evidence) -> Verdict:
    known = {commit.row: commit for commit in evidence.commits}
    faults = [*evidence.faults, *_owners(evidence.owners)]
    reported = {row: known[row] for row in evidence.acknowledged if row in known}
    if unheard := evidence.acknowledged - known.keys():
        faults.append(f"{_some(unheard)}: acknowledged, and the app knows nothing of it")
    faults += _overlaps(reported.values())
    faults += _beside(evidence)
    reported |= {row: known[row] for row in evidence.own}
    aside: dict[str, int] = defaultdict(int)
    gone = 0
    for row, commit in sorted(reported.items(), key=lambda item: item[1].at):
        if row in evidence.final:
            continue
        places = [place for place, rows in evidence.aside.items() if row in rows]
        if places:
            aside[places[0]] += 1
            faults += _left_behind(commit, evidence)
        elif faults_of_it := _lost(commit, evidence):
            faults += faults_of_it
        else:
            gone += 1
    return Verdict(len(evidence.acknowledged), dict(aside), gone, tuple(_folded(faults)))


def _owners(owners: Iterable[tuple[int, str]]) -> list[str]:
    """An epoch is of one machine."""
    found: dict[int, set[str]] = defaultdict(set)
    for epoch, machine in owners:
        found[epoch].add(machine)
    return [f"epoch {e} was of {' and of '.join(sorted(m))}" for e, m in sorted(found.items()) if len(m) > 1]


def _overlaps(commits: Iterable[Commit]) -> list[str]:
    lives: dict[tuple[str, str], list[float]] = defaultdict(list)
    for commit in commits:
        lives[(commit.machine, commit.life)].append(commit.at)
    spans = sorted((min(at), max(at), machine, life[:6]) for (machine, life), at in lives.items())
    return [
        f"two served at once: {a[2]} (app {a[3]}) until {a[1]:.3f}, {b[2]} (app {b[3]}) from {b[0]:.3f}"
        for number, a in enumerate(spans)
        for b in spans[number + 1 :]
        if a[2] != b[2] and b[0] <= a[1]
    ]


def _beside(evidence: Evidence) -> list[str]:
    """Return what an app wrote by itself after another machine had taken over from it."""
    begun: dict[tuple[str, str], float] = {}
    for commit in evidence.commits:
        run = (commit.machine, commit.life)
        begun[run] = min(begun.get(run, commit.at), commit.at)
    faults = []
    for commit in evidence.commits:
        since = begun[commit.machine, commit.life]
        taken = [s.at for s in evidence.stolen if s.by != commit.machine and since < s.at < commit.at]
        excused = any(h.machine == commit.machine and h.since <= commit.at <= h.until + AWAKE for h in evidence.stopped)
        if commit.row in evidence.own and taken and not excused:
            late = f"{_name(commit.row)} on {commit.machine} at {commit.at:.3f}"
            faults.append(f"two wrote at once: {late}, taken over at {taken[0]:.3f}")
    return faults


def _left_behind(commit: Commit, evidence: Evidence) -> list[str]:
    """Why it should not have been set aside."""
    where = f"set aside: {_name(commit.row)}, committed on {commit.machine} at {commit.at:.3f}"
    taken = _taken_over(commit, evidence)
    if taken is None and commit.row in evidence.own and _stolen_from(commit, evidence):
        return []
    if taken is None:
        return [f"{where}, and no one had taken over since"]
    return _too_late(where, commit, taken, evidence)


def _lost(commit: Commit, evidence: Evidence) -> list[str]:
    """Why it should be somewhere; empty: its disk is gone, and it was too new to be anywhere else."""
    where = f"lost: {_name(commit.row)}, committed on {commit.machine} at {commit.at:.3f}"
    wiped = min((w.at for w in evidence.wiped if w.machine == commit.machine and w.at >= commit.at), default=None)
    if wiped is None:
        return [f"{where}, and its disk was never wiped since"]
    return _too_late(where, commit, min(wiped, _taken_over(commit, evidence) or wiped), evidence)


def _taken_over(commit: Commit, evidence: Evidence) -> float | None:
    """When; from then on the machine may not save it any more."""
    return min((s.at for s in evidence.stolen if s.by != commit.machine and s.at >= commit.at), default=None)


def _stolen_from(commit: Commit, evidence: Evidence) -> bool:
    """Return whether another machine has ever taken over from its machine: what is written after that is set aside."""
    return any(s.by != commit.machine for s in evidence.stolen)


def _too_late(where: str, commit: Commit, until: float, evidence: Evidence) -> list[str]:
    """Return whether it was in the store, or should have been by then."""
    if commit.row in evidence.published:
        return [f"{where}, though a published version had it"]
    free = until - commit.at - _covered(commit, until, evidence.hindered)
    if free > BOUND[evidence.mode] + BUSY:
        return [f"{where}: it could have been saved for {free:.1f} s"]
    return []


def _covered(commit: Commit, until: float, hindered: Iterable[Hindered]) -> float:
    """Seconds from the commit on in which the machine was hindered."""
    spans = sorted((max(h.since, commit.at), min(h.until + UNDONE, until)) for h in hindered
                   if h.machine == commit.machine)  # fmt: skip
    total, reached = 0.0, commit.at
    for since, end in spans:
        total += max(0.0, end - max(since, reached))
        reached = max(reached, end)
    return total


def _folded(faults: list[str]) -> list[str]:
    """The first few of each sort, and how many there are."""
    sorts: Mapping[str, list[str]] = defaultdict(list)
    for fault in faults:
        sorts[fault.partition(":")[0]].append(fault)
    folded: list[str] = []
    for sort, all_of_it in sorts.items():
        folded += all_of_it[:5]
        if len(all_of_it) > 5:
            folded.append(f"{sort}: {len(all_of_it)} in all")
    return folded


def _name(row: Row) -> str:
    tenant, client, number = row
    return f"{tenant} {client} {number}"


def _some(rows: set[Row]) -> str:
    return f"{len(rows)} rows (the first is {_name(min(rows))})"
