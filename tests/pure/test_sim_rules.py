"""The simulator's decisions: replays read, machines chosen, replays kept, limits."""

import pytest

from flyatc.sim import replay
from flyatc.sim.api_rules import Rates
from flyatc.sim.proxy_rules import Cache, MachineView, candidates
from flyatc.sim.replay import BadReplay, Caching, Replay


def test_a_replay_is_read_from_its_header() -> None:
    found = replay.of_header('region="iad,us";app=a; state=x.y ;timeout=800ms;fallback=prefer_self;elsewhere=true')
    assert found == Replay(
        region="iad,us", app="a", state="x.y", timeout="800ms", fallback="prefer_self", elsewhere=True
    )
    assert (found.regions, found.patience) == (("iad", "us"), 0.8)


@pytest.mark.parametrize(
    "value",
    ["", "instance", "instance=a;instance=b", "elsewhere=maybe", "fallback=other", "timeout=1500", "timeout=s", 'a="'],
)
def test_what_is_no_replay_is_refused(value: str) -> None:
    with pytest.raises(BadReplay):
        replay.of_header(value)


def test_the_json_form_is_as_strict() -> None:
    assert replay.of_json(b'{"app":"w","timeout":"10s","fallback":"force_self"}').patience == 10
    cached = replay.of_json(b'{"instance":"a","cache":{"prefix":"/x/*","ttl":60,"allow_bypass":true}}')
    assert cached.cache == Caching(prefix="/x/*", ttl=60, allow_bypass=True)
    for bad in (b"", b"[]", b'{"instances":"a"}', b'{"instance":"a","cache":{"prefix":"/x/*","ttl":9}}'):
        with pytest.raises(BadReplay):
            replay.of_json(bad)


def test_a_failed_replay_is_reported_with_what_was_wanted() -> None:
    reported = replay.failed(Replay(instance="a", app="b"), "c", "timeout", 12)
    assert reported == "instance=a;app=b;region=;replay_source=c;reason=timeout;elapsed_ms=12"


HERE = MachineView("a", "app", "iad", "started")
THERE = MachineView("b", "app", "ams", "started")
ASLEEP = MachineView("c", "app", "iad", "stopped")


@pytest.mark.parametrize(
    ("want", "chosen"),
    [
        (Replay(), "abc"),
        (Replay(instance="b"), "b"),
        (Replay(instance="x"), ""),
        (Replay(prefer_instance="c"), "cab"),
        (Replay(region="ams,any"), "bac"),
        (Replay(region="eu"), "b"),
        (Replay(region="syd"), ""),
        (Replay(elsewhere=True), "bc"),
        (Replay(region="iad", elsewhere=True), "c"),
    ],
)
def test_machines_are_tried_in_this_order(want: Replay, chosen: str) -> None:
    want = Replay(
        instance=want.instance, prefer_instance=want.prefer_instance, region=want.region, elsewhere=want.elsewhere,
        app="app",
    )  # fmt: skip
    assert "".join(one.id for one in candidates([ASLEEP, THERE, HERE], want, "iad", "a")) == chosen


@pytest.mark.parametrize(
    "useless",
    [
        MachineView("d", "app", "iad", "created"),
        MachineView("d", "app", "iad", "stopping"),
        MachineView("d", "app", "iad", "destroyed"),
        MachineView("d", "app", "iad", "stopped", autostart=False),
        MachineView("d", "app", "iad", "started", cordoned=True),
        MachineView("d", "other", "iad", "started"),
    ],
)
def test_some_machines_are_never_tried(useless: MachineView) -> None:
    assert candidates([useless], Replay(app="app"), "iad", None) == []
    assert candidates([useless], Replay(app="app", instance="d"), "iad", None) == []


def test_the_longest_prefix_of_the_same_host_counts_until_its_end() -> None:
    cache = Cache()
    cache.keep("a", "/x/y", Replay(instance="1"), Caching("/x/*", 10), "app", 0.0)
    cache.keep("a", "/x/y/z", Replay(instance="2", state=""), Caching("A/x/y", 20), "app", 0.0)

    def found(host: str, path: str, now: float) -> str | None:
        one = cache.find(host, path, now)
        return None if one is None else one.target.instance

    assert [found("a", "/x/y/z", 5), found("a", "/x/q", 5), found("b", "/x/q", 5)] == ["2", "1", None]
    assert found("a", "/x/yz", 5) == "1", "whole segments"
    assert [found("a", "/x/q", 11), found("a", "/x/y/", 11)] == [None, "2"]
    cache.forget("a", "/x/y/q", "another")
    assert found("a", "/x/y/", 11) == "2", "only a replay back to the origin invalidates"
    cache.forget("a", "/x/y/q", "app")
    assert found("a", "/x/y/", 11) is None
    with pytest.raises(BadReplay):
        cache.keep("a", "/x", Replay(instance="1"), Caching("/other/*", 10), "app", 0.0)


def test_a_bucket_fills_again_with_time() -> None:
    rates = Rates()
    assert [rates.allows("start", "a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert rates.allows("start", "b", 0.0)
    assert [rates.allows("start", "a", 1.5) for _ in range(2)] == [True, False]
