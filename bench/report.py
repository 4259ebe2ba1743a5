"""Tables, for a terminal or in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Goal:
    """``reached`` against ``limit``: at most that, in ``unit``."""

    what: str
    reached: float
    limit: float
    unit: str = ""

    def __str__(self) -> str:
        if self.reached != self.reached:  # not a number: one side could not be measured
            return f"{self.what}: not measured (goal ≤ {self.limit:g}{self.unit})"
        verdict = "met" if self.reached <= self.limit else "missed"
        return f"{self.what}: {self.reached:.2f}{self.unit} (goal ≤ {self.limit:g}{self.unit}: {verdict})"


@dataclass
class Table:
    """``rows`` start with a name; numbers follow."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str | float]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def text(self) -> str:
        cells = [list(self.columns), *([_cell(value) for value in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join([self.title, "", *lines, *(f"  {goal}" for goal in self.goals), ""])

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---", *["--:"] * (len(self.columns) - 1)])]
        lines += [_line([_cell(value) for value in row]) for row in self.rows]
        return "\n".join([*lines, "", *(f"- {goal}" for goal in self.goals), ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    if value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
