"""The memory of a machine, as /proc and cgroups tell it."""

from flyatc.kit import machine_memory

MEMINFO = "MemTotal:         486052 kB\nMemFree:          101000 kB\n"


def test_it_is_that_of_the_machine_or_less_in_a_container() -> None:
    assert machine_memory.least([MEMINFO]) == 486052 * 1024
    assert machine_memory.least([MEMINFO, "268435456\n"]) == 256 << 20
    assert machine_memory.least([MEMINFO, "max\n", "9223372036854771712\n"]) == 486052 * 1024


def test_without_a_word_about_it_a_gigabyte_is_assumed() -> None:
    assert machine_memory.least([]) == machine_memory.least(["max\n", ""]) == 1 << 30


def test_this_machine_has_some() -> None:
    assert machine_memory.total() > 64 << 20
