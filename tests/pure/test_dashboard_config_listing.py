"""The text of the configuration page, with line numbers and faults."""

from flyatc.config.errors import Fault
from flyatc.dashboard.config_page import MOST_LINES, NEAR, Line, listing, summary


def fault(line: int | None, key: str = "app.idel") -> Fault:
    return Fault("tenants.yaml", line, key, "unknown key")


def test_each_line_has_its_number_and_its_faults() -> None:
    found = listing("a: 1\r\nb: 2\n", [fault(2), fault(2, ""), fault(None)])
    assert found == [Line(1, "a: 1"), Line(2, "b: 2", ("app.idel: unknown key", "unknown key")), Line(3, "")]


def test_a_fault_behind_the_end_is_shown_at_the_last_line() -> None:
    assert listing("a: [", [fault(9)]) == [Line(1, "a: [", ("app.idel: unknown key",))]


def test_of_a_long_text_only_lines_near_faults_are_shown() -> None:
    text = "\n".join(f"line {n}" for n in range(1, MOST_LINES + 10))
    assert listing(text, []) == []
    assert [one.number for one in listing(text, [fault(1), fault(500)])] == [
        *range(1, 1 + NEAR + 1),
        *range(500 - NEAR, 500 + NEAR + 1),
    ]
    assert len(listing(text, [fault(n) for n in range(1, MOST_LINES)])) == MOST_LINES


def test_a_reload_is_summed_up_in_a_sentence() -> None:
    assert summary([], [], [], []) == "no tenant is affected."
    assert summary(["a"], [], ["b", "c"], ["server.listen", "cache.size"]) == (
        "1 tenant added, 2 tenants removed. These settings need a restart of the daemon: server.listen, cache.size."
    )
