"""Small plots as SVG, and those of a tenant's day: steps over time, as areas or lines. Pure.

All looks are classes of dashboard.css: no style attributes, no scripts. The size is that of a phone's column, so that
its text is readable there without scaling. Text is escaped; all the rest are numbers.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from flyatc.kit.units import human_seconds, human_size
from flyatc.observe.activity import SLOT, Slot

WIDTH, HEIGHT = 350, 130  # of the whole picture, in the units of its text
LEFT, RIGHT, TOP, BOTTOM = 48, 6, 8, 20  # margins around the plot
HOURS = 6  # between two labels of time
DECADES, LEAST = 3, 1e-6  # of a logarithmic scale, at least

Point = tuple[float, float]  # Unix time of a step's begin, value


@dataclass(frozen=True)
class Series:
    """``kind``: area or line. ``look``: class of its colour. ``points``: in order of time; where there is no point,
    nothing is drawn."""

    kind: str
    look: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Scale:
    """Position of a value between the bottom (0) and the top (1), and the values that have a label."""

    at: Callable[[float], float]
    ticks: Sequence[float]


def linear(largest: float, base: int = 10) -> Scale:
    """From 0 to a round number not below ``largest``. ``base`` 2: for bytes."""
    top = round_up(max(largest, 2.0), base)
    return Scale(lambda value: min(1.0, value / top), (0.0, top / 2, top))


def round_up(value: float, base: int) -> float:
    """The next even number of one digit and zeros, or of 1.5 or 1 times a power of two."""
    power = float(base) ** math.floor(math.log(value, base))
    steps = (1, 1.5, 2, 4) if base == 2 else (1, 2, 3, 4, 6, 8, 10, 20)
    return next(step * power for step in steps if value <= step * power and step * power % 2 == 0)


def logarithmic(values: Iterable[float]) -> Scale:
    """Powers of ten around the values, at least DECADES; values below LEAST are at the bottom."""
    found = [value for value in values if value >= LEAST] or [0.001]
    low, high = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
    high = max(high, low + DECADES)

    def at(value: float) -> float:
        return 0.0 if value < LEAST else min(1.0, max(0.0, (math.log10(value) - low) / (high - low)))

    return Scale(at, [10.0**power for power in range(low, high + 1)])


@dataclass(frozen=True)
class Day:
    """The time axis, up to ``until`` (Unix time). ``step``: seconds of a point."""

    until: float
    step: float
    seconds: float = 86400.0

    def at(self, moment: float) -> float:
        """Horizontal position, within the plot."""
        part = (moment - (self.until - self.seconds)) / self.seconds
        return LEFT + min(1.0, max(0.0, part)) * (WIDTH - LEFT - RIGHT)


def plot(
    name: str, title: str, text: str, day: Day, scale: Scale, shown: Callable[[float], str], series: Iterable[Series]
) -> str:
    """Draw it. ``name``: for its ids, unique on the page. ``title`` and ``text`` describe it to screen readers.
    ``shown`` formats a value for the axis."""
    parts = [
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-labelledby="{escape(name)}-title '
        f'{escape(name)}-text"><title id="{escape(name)}-title">{escape(title)}</title>'
        f'<desc id="{escape(name)}-text">{escape(text)}</desc>',
        *(_value_label(value, scale, shown) for value in scale.ticks),
        *(_time_label(moment, day) for moment in _hours(day)),
        *(f'<path class="plot-{one.kind} {escape(one.look)}" d="{_path(one, day, scale)}"/>' for one in series),
        "</svg>",
    ]
    return "".join(parts)


def _value_label(value: float, scale: Scale, shown: Callable[[float], str]) -> str:
    y = _number(_height(scale.at(value)))
    line = f'<path class="plot-grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
    return f'{line}<text class="plot-value" x="{LEFT - 6}" y="{y}">{escape(shown(value))}</text>'


def _time_label(moment: float, day: Day) -> str:
    x, text = _number(day.at(moment)), datetime.fromtimestamp(moment, UTC).strftime("%H:%M")
    tick = f'<path class="plot-grid" d="M{x} {HEIGHT - BOTTOM}v4"/>'
    return f'{tick}<text class="plot-time" x="{x}" y="{HEIGHT - 4}">{text}</text>'


def _hours(day: Day) -> list[float]:
    """Whole hours to be labelled, far enough from the edges for their text."""
    every, edge = HOURS * 3600, 0.05 * day.seconds
    first = math.ceil((day.until - day.seconds + edge) / every) * every
    return [float(moment) for moment in range(first, int(day.until - edge) + 1, every)]


def _path(series: Series, day: Day, scale: Scale) -> str:
    """The outline of its steps. Where a point is missing, a new piece begins."""
    drawn: list[str] = []
    end = -math.inf
    floor = HEIGHT - BOTTOM
    for moment, value in series.points:
        x, y, after = (_number(one) for one in (day.at(moment), _height(scale.at(value)), day.at(moment + day.step)))
        if moment > end:
            drawn += [f"V{floor}Z"] if drawn and series.kind == "area" else []
            drawn.append(f"M{x} {floor}V{y}H{after}" if series.kind == "area" else f"M{x} {y}H{after}")
        else:
            drawn.append(f"V{y}H{after}")
        end = moment + day.step
    return "".join([*drawn, f"V{floor}Z"] if drawn and series.kind == "area" else drawn)


def _height(part: float) -> float:
    return TOP + (1.0 - part) * (HEIGHT - TOP - BOTTOM)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


# --- the pictures of a tenant's day ---


@dataclass(frozen=True)
class Picture:
    """``words``: its content in sentences. ``keys``: class and meaning of each of its colours, if there are several."""

    name: str
    title: str
    words: str
    svg: str
    keys: Sequence[tuple[str, str]] = ()


def pictures(slots: Sequence[Slot], now: float) -> list[Picture]:
    """Requests, their time and memory of the day before ``now`` (Unix time)."""
    day = Day(now, SLOT)
    return [_requests(slots, day), _times([one for one in slots if one.requests], day), _memory(slots, day)]


def _requests(slots: Sequence[Slot], day: Day) -> Picture:
    total, errors = (sum(getattr(one, name) for one in slots) for name in ("requests", "errors"))
    words = "None in the last 24 hours."
    if total:
        most = max(slots, key=lambda one: one.requests)
        failed = f"{errors:,} of them failed" if errors else "none of them failed"
        words = f"{total:,} in 24 hours, {failed}. At most {most.requests:,} in five minutes, {_clock(most)}."
    series = [
        Series("area", "tone-requests", [(one.at, one.requests) for one in slots if one.requests]),
        Series("area", "tone-errors", [(one.at, one.errors) for one in slots if one.errors]),
    ]
    scale = linear(max((one.requests for one in slots), default=0))
    title = "Requests in five minutes"
    svg = plot("requests", title, words, day, scale, short_count, series)
    return Picture("requests", title, words, svg, (("tone-requests", "all"), ("tone-errors", "failed (5xx)")))


def _times(slots: Sequence[Slot], day: Day) -> Picture:
    words = "No responses in the last 24 hours."
    if slots:
        last, worst = slots[-1], max(slots, key=lambda one: one.slow)
        words = (
            f"Lately half took {human_seconds(last.median)} or less, and 99 of 100 {human_seconds(last.slow)}. "
            f"Slowest: {human_seconds(worst.slow)}, {_clock(worst)}."
        )
    series = [
        Series("area", "tone-slow", [(one.at, one.slow) for one in slots]),
        Series("line", "tone-median", [(one.at, one.median) for one in slots]),
    ]
    scale = logarithmic(value for one in slots for value in (one.median, one.slow))
    title = "Time of a response"
    svg = plot("times", title, words, day, scale, short_seconds, series)
    return Picture("times", title, words, svg, (("tone-median", "half within"), ("tone-slow", "99 of 100 within")))


def _memory(slots: Sequence[Slot], day: Day) -> Picture:
    found = [one for one in slots if one.memory]
    words = "Its app did not run in the last 24 hours."
    if found:
        most = max(found, key=lambda one: one.memory)
        words = f"Last {human_size(found[-1].memory)}. At most {human_size(most.memory)}, {_clock(most)}."
    series = [Series("area", "tone-memory", [(one.at, one.memory) for one in found])]
    scale = linear(max((one.memory for one in found), default=64 << 20), 2)
    title = "Memory of its processes"
    return Picture("memory", title, words, plot("memory", title, words, day, scale, short_size, series))


def _clock(slot: Slot) -> str:
    return datetime.fromtimestamp(slot.at, UTC).strftime("at %H:%M UTC")


def short_count(value: float) -> str:
    """For an axis: 20000 → ``"20k"``."""
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= least:
            return f"{value / (1e3 if unit == 'k' else least):g}{unit}"
    return f"{value:g}"


def short_size(value: float) -> str:
    """For an axis: 134217728 → ``"128 MB"``."""
    return human_size(value).replace(".0 ", " ") if value else "0"


def short_seconds(value: float) -> str:
    """For an axis: 0.01 → ``"10 ms"``."""
    return f"{value * 1e6:g} µs" if value < 0.001 else f"{value * 1e3:g} ms" if value < 1 else f"{value:g} s"
