"""Journal and counters are bounded."""

import pytest

from flyatc.observe import counters as process_counters
from flyatc.observe.counters import Counters
from flyatc.observe.log import Journal


def test_tenants_without_number_share_one_series_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_counters, "MOST_SERIES", 2)
    counters = Counters()
    for number in range(5):
        counters.count(str(number), 200, 10)
    counters.count("0", 200, 7)
    assert counters.requests == {("0", 200): 2, ("1", 200): 1, ("~others", 200): 3}
    assert counters.sent == {"0": 17, "1": 10, "~others": 30}
    assert counters.sent_bytes == 57


def test_the_journal_keeps_the_newest_lines_that_fit() -> None:
    journal = Journal(bound=100)
    for number in range(10):
        journal.add(None, b"%02d" % number * 15)  # 30 octets each
    assert [entry[0] for entry in journal.since(0)] == [8, 9, 10]
    assert [entry[0] for entry in journal.since(9)] == [10]


def test_the_journal_returns_a_tenant_or_all_of_a_user() -> None:
    journal = Journal()
    for tenant in (None, "ann", "ann/one", "ann/one/deep", "anna", "bob/one"):
        journal.add(tenant, b"{}")

    def reported(address: str) -> list[str | None]:
        return [entry[1] for entry in journal.since(0, address)]

    assert reported("ann") == ["ann", "ann/one", "ann/one/deep"]
    assert reported("ann/one") == ["ann/one", "ann/one/deep"]
    assert reported("bob") == ["bob/one"]
