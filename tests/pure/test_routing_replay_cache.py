"""Replays that Fly Proxy remembers: which, for what, and how their targets recognise them."""

import pytest

from flyatc.fly.environment import Machine
from flyatc.routing.replay import Replays, Target
from flyatc.routing.replay_cache import LASTING, MOST, Arrival, ReplaySuccesses, classify_arrival, headers
from flyatc.sim import replay as fly_proxy
from flyatc.sim.proxy_rules import Cache

ME = Machine("shop", "148e21dad76789", "bos")
SOURCE = b"instance=3d8dd15c1ed778;region=iad;t=1"


@pytest.mark.parametrize("host", [b"shop.example", b"Shop.Example:3000", b"10.0.0.1", b"a"])
@pytest.mark.parametrize("prefix", ["/100", "/customers/100", "/a~b/x_y-z"])
def test_what_is_said_fits_the_request_by_fly_proxys_rules(host: bytes, prefix: str) -> None:
    said = headers(host, prefix, 60.0)
    assert said is not None
    name = host.decode().lower().partition(":")[0]
    assert said[0] == (b"Fly-Replay-Cache", f"{name}{prefix}/*".encode())
    rule = fly_proxy.caching_of_headers(said[0][1].decode(), said[1][1].decode(), None)
    plain = Replays(ME, b"x", 30.0).plain(Target("shop", id="3d8dd15c1ed778"))
    found = fly_proxy.of_header(plain, rule)
    cache = Cache()
    assert found.cache is not None
    cache.keep(name, f"{prefix}/x", found, found.cache, "shop", 0.0)
    assert cache.find(name, f"{prefix}/other", 59.0) is not None
    assert cache.find(name, f"{prefix}0/x", 59.0) is None


@pytest.mark.parametrize(
    "host", [None, b"", b"[::1]", b"a/b", b"a b", b"a*", b"a\r\nx: y", b"a:b", b"-a", "ä".encode()]
)
def test_a_host_which_is_no_name_is_never_repeated(host: bytes | None) -> None:
    assert headers(host, "/100", 60.0) is None


def test_nothing_is_remembered_for_less_than_fly_allows_or_for_a_path_that_is_a_pattern() -> None:
    assert headers(b"a", "/100", 0.0) is None
    assert headers(b"a", "/100", 9.9) is None
    assert headers(b"a", "/*/100", 60.0) is None


def test_a_target_knows_how_a_request_has_found_it() -> None:
    assert classify_arrival([], [], 0) is Arrival.FIRST
    assert classify_arrival([], [b"hit"], 0) is Arrival.REMEMBERED
    assert classify_arrival([SOURCE], [b"miss"], 0) is Arrival.REMEMBERED, "the replay which was to be remembered"
    assert classify_arrival([SOURCE], [b"miss"], 1) is Arrival.REPLAYED
    assert classify_arrival([SOURCE], [], 0) is Arrival.REPLAYED
    assert classify_arrival([], [b"bypass"], 0) is Arrival.REPLAYED


# --- the machines to which replays may be remembered ---

THERE, ELSEWHERE = Target("shop", id="3d8dd15c1ed778"), Target("shop", id="e28650ce7d1d68")


def test_a_machine_is_proven_once_replays_have_gone_well_for_longer_than_they_may_take() -> None:
    proofs = ReplaySuccesses(10)
    assert not proofs.proven("ann", THERE, 0)
    for now in (0, 16):
        proofs.sent("ann", THERE, now)
    assert not proofs.proven("ann", THERE, 15)
    assert proofs.proven("ann", THERE, 16)
    assert not proofs.proven("ann", ELSEWHERE, 16)
    assert not proofs.proven("bob", THERE, 16)


def test_a_failure_is_the_end_of_a_proof_until_others_have_gone_well() -> None:
    proofs = ReplaySuccesses(10)
    for now in (0, 16):
        proofs.sent("ann", THERE, now)
    proofs.failed("ann")
    assert not proofs.proven("ann", THERE, 40), "nothing was sent since"
    for now in (40, 55):
        proofs.sent("ann", THERE, now)
    assert not proofs.proven("ann", THERE, 55)
    assert proofs.proven("ann", THERE, 56)


def test_a_proof_ends_when_nothing_was_sent_of_which_we_would_hear_that_it_failed() -> None:
    proofs = ReplaySuccesses(10)
    for now in (0.0, 16.0):
        proofs.sent("ann", THERE, now)
    assert proofs.proven("ann", THERE, 16 + LASTING)
    assert not proofs.proven("ann", THERE, 17 + LASTING)
    proofs.sent("ann", THERE, 17 + LASTING)
    assert not proofs.proven("ann", THERE, 18 + LASTING), "the one that was just sent may yet fail"


def test_proofs_are_bounded_and_the_oldest_is_forgotten_first() -> None:
    proofs = ReplaySuccesses(1)
    for now, users in ((0, MOST), (5, MOST + 1)):
        for number in range(users):
            proofs.sent(str(number), THERE, now)
    assert not proofs.proven("0", THERE, 5)
    assert proofs.proven("1", THERE, 5)
