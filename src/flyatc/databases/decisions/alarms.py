"""Alarms about a database while its app runs: a WAL that only grows, a stream that makes no progress. Pure.

Times are of any monotonic clock; sizes are bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from flyatc.config import name_rules
from flyatc.kit.units import human_seconds, human_size

# SQLite and litestream checkpoint at 1000 pages, 4 MB. A burst leaves some ten times that until the next checkpoint of
# each minute; more than this means a reader that never ends, or a checkpoint that never succeeds.
LARGE_WAL = 128 << 20
CALM = 0.5  # of that; below it the alarm ends

# litestream sends each second. After STUCK without progress there is only an alarm, since a store may be slow.
STUCK = 30.0  # s; then an alarm
RENEW = 60.0  # s; then the whole database is sent again, if the store responds
SHOWN = 5  # names in one sentence
LONGEST_PAUSE = 3600.0  # s; between two renewals, which each send the whole database


@dataclass
class Watch:
    """Alarms of one database. Call ``see`` once a second."""

    wal: int = 0
    stuck: float = 0.0  # seconds with changes and without progress
    _loud: bool = False
    _since: float | None = None
    _at: object = None
    _pause: float = RENEW
    _next: float = field(default=0.0)

    def see(self, now: float, wal: int, position: object, *, behind: bool, patience: float) -> list[tuple[str, str]]:
        """Return (level, message) for the log. ``behind``: something was written that the store may lack. ``position``:
        of what the store has. ``patience``: seconds that one step may take, since the database may be large."""
        return [*self._see_wal(wal), *self._see_position(now, position, behind=behind, patience=patience)]

    @property
    def sentences(self) -> list[str]:
        """The active alarms, as text for the operator."""
        found = [large_wal(self.wal)] if self._loud else []
        if self.stuck:
            found.append(
                f"it is written, but the store has got nothing of it for {human_seconds(self.stuck)}: litestream hangs "
                "or the store takes nothing. All is sent anew as soon as the store answers"
            )
        return found

    def renewal_due(self, now: float) -> bool:
        """Return whether to start a renewal now; if so, postpone the next one."""
        if not self.stuck or self._since is None or now < self._next:
            return False
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._next = now + self._pause
        return True

    def _see_wal(self, wal: int) -> list[tuple[str, str]]:
        self.wal = wal
        if not self._loud and wal > LARGE_WAL:
            self._loud = True
            return [("warning", large_wal(wal))]
        if self._loud and wal < LARGE_WAL * CALM:
            self._loud = False
            return [("info", f"its WAL is small again: {human_size(wal)}")]
        return []

    def _see_position(self, now: float, position: object, *, behind: bool, patience: float) -> list[tuple[str, str]]:
        was = self.stuck
        if not behind or position != self._at or self._since is None:
            self._since, self._at, self.stuck = (now if behind else None), position, 0.0
            if was:
                self._pause = RENEW
                return [("info", "the store gets what is written again")]
            return []
        elapsed = now - self._since
        if elapsed <= max(STUCK, patience):
            return []
        self.stuck = elapsed
        if was:
            return []
        self._next = now + max(0.0, RENEW - STUCK)
        return [("error", self.sentences[-1])]


def large_wal(size: int) -> str:
    return (
        f"its WAL has {human_size(size)} and is not checkpointed: a connection reads without an end, or none ever "
        "comes to its end. End long transactions and idle cursors, or restart the app; the disk fills up otherwise"
    )


def overlooked(
    missing: Sequence[str], outside: Sequence[str], beside: Sequence[str], unlisted: Sequence[str]
) -> list[str]:
    """Return sentences about databases of an app that are not saved. ``missing``: named in ``databases``, but not
    there; ``outside``: open, and not below {data}; ``beside``: written since the start, in the app's directory or named
    in its environment; ``unlisted``: below {data}, and not named in ``databases``."""
    found = []
    absent = f"{_joined(missing)} {'does' if len(missing) == 1 else 'do'} not exist"
    if outside and missing:
        found.append(f"{absent}; the app has opened {_joined(outside)}, which is not saved. Does it use {{data}}?")
    elif outside:
        found.append(f"the app writes {_joined(outside)}, which is outside of {{data}} and not saved")
    elif beside and missing:
        found.append(
            f"{absent}; {_joined(beside)} was written since the start, and is not saved. Does the app use {{data}}?"
        )
    odd = [name for name in unlisted if name_rules.database(name) is not None]
    plain = [name for name in unlisted if name not in odd]
    if plain:
        found.append(f"{_in_data(plain)}, not named in databases, and not saved")
    if odd:
        found.append(
            f"{_in_data(odd)}, and not saved because of the name: '~', '\\', control characters, or longer than "
            "200 bytes. Let the app use another name, or leave it out with !"
        )
    return found


def _in_data(names: Sequence[str]) -> str:
    return f"{_joined(names)} in {{data}} {'is a database' if len(names) == 1 else 'are databases'}"


def shown(path: str) -> str:
    """Return the name of a file as it is shown: one that an app has given may have any bytes in it."""
    return path if path.isprintable() else repr(path)


def _joined(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
