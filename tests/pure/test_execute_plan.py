import msgspec
import pytest

from flyatc.cli.execute_plan import (
    DONE,
    ELSEWHERE,
    FAILED,
    INTERRUPTED,
    Finish,
    Head,
    Progress,
    Result,
    Start,
    Unreadable,
    Wait,
    next_step,
    read,
)

HEAD = Head(run="r", command=["migrate"], scope=None, undo=True, tenants=["a", "b", "c", "d"])


def result(tenant: str, state: str = DONE) -> Result:
    return Result(tenant=tenant, state=state)


def journal(*lines: Result, cut: bytes = b"") -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in (HEAD, *lines)) + cut


def test_the_tenants_start_in_order_as_many_as_may_run_at_the_same_time() -> None:
    now = Progress(["a", "b", "c"])
    assert next_step(now, 2) == Start("a", "0 of 2 run")
    now.waiting.remove("a")
    now.running |= {"a"}
    assert next_step(now, 2) == Start("b", "1 of 2 run")
    now.waiting.remove("b")
    now.running |= {"b"}
    assert next_step(now, 2) == Wait("2 run at the same time")
    now.ended(result("a"), keep_going=False)
    assert next_step(now, 2) == Start("c", "1 of 2 run")


def test_after_a_failure_no_other_begins_and_what_runs_ends_first() -> None:
    now = Progress(["c"], {"a", "b"})
    now.ended(result("a", FAILED), keep_going=False)
    assert next_step(now, 2) == Wait("1 still run")
    now.ended(result("b"), keep_going=False)
    assert next_step(now, 2) == Finish("a failed")


def test_with_keep_going_a_failure_stops_nothing() -> None:
    now = Progress(["c"], {"a"})
    now.ended(result("a", FAILED), keep_going=True)
    assert next_step(now, 1) == Start("c", "0 of 1 run")


def test_a_tenant_elsewhere_is_no_failure() -> None:
    now = Progress([], {"a"})
    now.ended(result("a", ELSEWHERE), keep_going=False)
    assert next_step(now, 1) == Finish("all were tried")


@pytest.mark.parametrize("keep_going", [True, False])
def test_an_interruption_stops_even_with_keep_going(keep_going: bool) -> None:
    now = Progress(["c"], {"a"})
    now.ended(result("a", INTERRUPTED), keep_going=keep_going)
    assert next_step(now, 1) == Finish("it was interrupted")
    now = Progress(["c"], {"a"})
    now.interrupt()
    assert next_step(now, 1) == Wait("1 still run")


def test_a_journal_leaves_what_is_not_done_in_order() -> None:
    found = read(journal(result("c"), result("a", FAILED), result("b", ELSEWHERE)))
    assert found.left == ["a", "b", "d"]
    assert found.summary == "4 tenants: 1 done, 1 elsewhere, 1 failed; 3 to do"
    assert read(journal(result("a", FAILED), result("a"))).left == ["b", "c", "d"], "the later line counts"
    assert read(journal()).summary == "4 tenants: none tried; 4 to do"


def test_a_line_that_a_crash_has_cut_does_not_count() -> None:
    whole = msgspec.json.encode(result("a"))
    assert read(journal(cut=whole[:-3])).left == HEAD.tenants
    assert read(journal(cut=whole)).left == HEAD.tenants, "without its end of line it may be cut as well"


@pytest.mark.parametrize("text", [b"", b"{}\n", b"\xff\n", journal()[:-5] + b"\n", journal() + b"no\n", b'{"v": 2}\n'])
def test_what_is_no_journal_is_refused(text: bytes) -> None:
    with pytest.raises(Unreadable):
        read(text)
