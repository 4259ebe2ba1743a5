"""Small plots as SVG."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.dashboard import plots
from flyatc.dashboard.plots import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Day, Series, linear, logarithmic, plot, round_up

NOON = 1_790_856_000.0  # 2026-10-01, 12:00 in UTC
DAY = Day(NOON, 300.0)
SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.floats(0, 1e15)
POINTS = st.dictionaries(st.integers(-10, 300), VALUES, max_size=300)


def drawn(*series: Series, title: str = "Requests", scale: plots.Scale | None = None) -> ElementTree.Element:
    text = plot("requests", title, "none", DAY, scale or linear(10), lambda value: f"{value:g}", series)
    return ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))


def paths(svg: ElementTree.Element, look: str) -> list[str]:
    return [one.attrib["d"] for one in svg.iter(f"{SVG}path") if look in one.attrib["class"].split()]


@given(POINTS, st.sampled_from(["area", "line"]), st.sampled_from(["linear", "binary", "logarithmic"]))
def test_every_picture_is_well_formed_and_within_its_frame(points: dict[int, float], kind: str, how: str) -> None:
    found = [(NOON - 86400 + number * 300, value) for number, value in sorted(points.items())]
    values = [value for _, value in found]
    scale = (
        logarithmic(values) if how == "logarithmic" else linear(max(values, default=0), 2 if how == "binary" else 10)
    )
    svg = drawn(Series(kind, "one", found), scale=scale)
    (path,) = paths(svg, "one")
    assert bool(path) == bool(points)
    for command, numbers in re.findall(r"([MHVZ])([^MHVZ]*)", path):
        at = [float(number) for number in numbers.split()]
        if command in "MH":
            assert LEFT <= at[0] <= WIDTH - RIGHT
        if command in "MV":
            assert TOP <= at[-1] <= HEIGHT - plots.BOTTOM
    assert "style" not in ElementTree.tostring(svg).decode()


def test_steps_that_follow_each_other_are_one_piece_and_a_gap_begins_another() -> None:
    points = [(NOON - 86400, 10.0), (NOON - 86100, 5.0), (NOON - 3600, 0.0)]
    line, area = Series("line", "one", points), Series("area", "two", points)
    svg = drawn(line, area)
    assert [re.findall("[A-Z]", path) for look in ("one", "two") for path in paths(svg, look)] == [
        list("MHVHMH"),
        list("MVHVHVZMVHVZ"),
    ]
    assert paths(svg, "one")[0].startswith(f"M{LEFT} {TOP}H49")


def test_hostile_text_is_escaped() -> None:
    svg = drawn(title="</title><script>")
    assert [one.text for one in svg.iter(f"{SVG}title")] == ["</title><script>"]


def test_title_and_text_name_the_picture_for_screen_readers() -> None:
    svg = drawn()
    assert svg.attrib["role"] == "img"
    named = [one.attrib["id"] for one in svg if one.tag in (f"{SVG}title", f"{SVG}desc")]
    assert svg.attrib["aria-labelledby"].split() == named


def test_the_axis_of_time_has_whole_hours_away_from_the_edges() -> None:
    labels = [one for one in drawn().iter(f"{SVG}text") if one.attrib["class"] == "plot-time"]
    assert [one.text for one in labels] == ["18:00", "00:00", "06:00"]
    at = [float(one.attrib["x"]) for one in labels]
    assert at == sorted(at)
    assert at[0] > LEFT + 10
    assert at[-1] < WIDTH - 10


@pytest.mark.parametrize(
    ("value", "base", "top"),
    [
        (1, 10, 2),
        (2, 10, 2),
        (3, 10, 4),
        (5, 10, 6),
        (11, 10, 20),
        (45, 10, 60),
        (207, 10, 300),
        (1000, 10, 1000),
        (1025, 2, 1536),
        (1537, 2, 2048),
        (2048, 2, 2048),
    ],
)
def test_the_largest_value_of_a_scale_is_round(value: float, base: int, top: float) -> None:
    assert round_up(value, base) == top


@given(VALUES, st.sampled_from([2, 10]))
def test_a_linear_scale_holds_the_largest_value(value: float, base: int) -> None:
    scale = linear(value, base)
    assert scale.ticks[-1] >= value
    assert 0 <= scale.at(value) <= 1
    assert (scale.at(0), scale.at(scale.ticks[-1])) == (0, 1)


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_a_logarithmic_scale_keeps_the_order(values: list[float]) -> None:
    scale = logarithmic(values)
    positions = [scale.at(value) for value in sorted(values)]
    assert positions == sorted(positions)
    assert len(scale.ticks) > plots.DECADES
    assert [scale.at(tick) for tick in (scale.ticks[0], scale.ticks[-1])] == [0, 1]
