"""The signature of a forwarded request: what is accepted, and how little suffices to be refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.config.schema import USER
from flyatc.fly.environment import Machine
from flyatc.routing import request_signature
from flyatc.routing.replay import Target
from flyatc.routing.request_signature import ForwardedRequest, InvalidSignature, RequestSigner

ME = Machine("shop", "148e21dad76789", "iad")
OTHER = Machine("shop", "3d8dd15c1ed778", "bos")
THERE = Target("shop", id=OTHER.id)
SECRET = b"of all machines"
NOW = 1_800_000_000.5
NONCE = bytes(range(16))
WHAT = ForwardedRequest("ann", 1, "172.16.0.1")
USERS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
TARGETS = st.binary(max_size=40).map(lambda tail: b"/" + tail)


def seal(
    to: Target = THERE,
    method: bytes = b"POST",
    target: bytes = b"/ann/x?y=1",
    what: ForwardedRequest = WHAT,
    nonce: bytes = NONCE,
    secret: bytes = SECRET,
) -> bytes:
    return RequestSigner(ME, secret).sign(to, method, target, what, NOW, nonce)


def opened(
    *values: bytes,
    by: RequestSigner | None = None,
    method: bytes = b"POST",
    target: bytes = b"/ann/x?y=1",
    late: float = 0.0,
) -> ForwardedRequest | InvalidSignature:
    return (by or RequestSigner(OTHER, SECRET)).open(values, method, target, NOW + late)


def why(outcome: ForwardedRequest | InvalidSignature) -> str:
    assert isinstance(outcome, InvalidSignature)
    return outcome.reason


@given(USERS, st.integers(1, 99), st.sampled_from(["", "172.16.0.1", "fdaa::3"]), TARGETS, st.binary(min_size=16))
def test_what_was_sealed_is_opened_as_it_was(user: str, hops: int, peer: str, target: bytes, nonce: bytes) -> None:
    what = ForwardedRequest(user, hops, peer)
    value = seal(target=target, what=what, nonce=nonce[:16])
    assert opened(value, target=target) == what


@given(st.data())
def test_any_altered_byte_is_refused(data: st.DataObject) -> None:
    value = seal()
    at = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != value[at]))
    assert isinstance(opened(value[:at] + bytes([other]) + value[at + 1 :]), InvalidSignature)


@given(st.data())
def test_any_byte_less_or_more_is_refused(data: st.DataObject) -> None:
    value = seal()
    at = data.draw(st.integers(0, len(value) - 1))
    byte = bytes([data.draw(st.integers(0, 255))])
    assert isinstance(opened(value[:at] + value[at + 1 :]), InvalidSignature)
    assert isinstance(opened(value[:at] + byte + value[at:]), InvalidSignature)


@given(TARGETS, st.sampled_from([b"POST", b"PUT", b"P"]))
def test_it_is_good_for_one_method_and_target(target: bytes, method: bytes) -> None:
    same = (target, method) == (b"/ann/x?y=1", b"POST")
    assert isinstance(opened(seal(), target=target, method=method), ForwardedRequest) is same


@given(st.binary(max_size=300))
def test_whatever_comes_is_no_reason_to_fail(value: bytes) -> None:
    assert isinstance(opened(value), InvalidSignature)


def test_it_is_good_for_the_machine_or_region_which_it_names() -> None:
    region = seal(Target("shop", region="bos"))
    assert isinstance(opened(region), ForwardedRequest)
    assert why(opened(region, by=RequestSigner(ME, SECRET))).startswith("its signature is not valid")
    assert why(opened(seal(), by=RequestSigner(ME, SECRET))).startswith("its signature is not valid")
    assert why(opened(seal(Target("other", id=OTHER.id)))).startswith("its signature is not valid")
    assert why(opened(seal(secret=b"another"))).startswith("its signature is not valid")


def test_it_is_needed_once() -> None:
    assert why(opened()) == "it has no signature"
    assert why(opened(seal(), seal(nonce=b"x" * 16))) == "its signature cannot be parsed"


@pytest.mark.parametrize(("late", "good"), [(-29, True), (29, True), (-31, False), (32, False), (86400, False)])
def test_it_is_good_for_half_a_minute(late: float, good: bool) -> None:
    assert isinstance(opened(seal(), late=late), ForwardedRequest) is good


def test_it_is_good_once_as_long_as_it_is_good() -> None:
    by = RequestSigner(OTHER, SECRET)
    assert isinstance(opened(seal(), by=by, late=-29), ForwardedRequest)
    for late in (-29, 0, 29):
        assert why(opened(seal(), by=by, late=late)).startswith("its signature was used before")
    assert why(opened(seal(), by=by, late=100)).startswith("its signature was made 100 s ago")
    assert why(opened(seal(), by=by, late=0)).startswith("its signature was used before"), "a clock may jump"
    assert isinstance(opened(seal(nonce=b"x" * 16), by=by), ForwardedRequest)


def test_what_is_remembered_is_bounded_and_forgotten_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_signature, "MOST_NONCES", 3)
    by, sender = RequestSigner(OTHER, SECRET), RequestSigner(ME, SECRET)
    outcomes = []
    for number in range(5):
        now = NOW + (0 if number < 4 else 31)
        value = sender.sign(Target("shop", id=OTHER.id), b"POST", b"/", WHAT, now, bytes([number]) * 16)
        outcomes.append(isinstance(by.open([value], b"POST", b"/", now), ForwardedRequest))
    assert outcomes == [True, True, True, False, True]


def test_a_peer_that_is_no_address_is_left_out() -> None:
    assert opened(seal(what=ForwardedRequest("ann", 1, "fe80::1%eth0"))) == ForwardedRequest("ann", 1, "")


def test_a_request_to_the_machine_itself_has_no_user_and_can_be_confused_with_none() -> None:
    what = ForwardedRequest(request_signature.NO_USER, 1, "")
    assert opened(seal(target=b"/.flyatc/machine", what=what), target=b"/.flyatc/machine") == what
    assert USER.fullmatch(request_signature.NO_USER) is None
    assert isinstance(opened(seal(what=what), target=b"/.flyatc/machine"), InvalidSignature)
