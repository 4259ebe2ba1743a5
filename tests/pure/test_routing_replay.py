"""Replay headers: those flyatc writes, and those it trusts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.fly import environment
from flyatc.fly.environment import Machine
from flyatc.kit.errors import FlyatcError
from flyatc.routing import placement_rules, replay
from flyatc.routing.replay import Failed, Replays, Source, Target
from flyatc.wire.head import RequestHead
from flyatc.wire.head_parser import RequestParser

ME = Machine("shop", "148e21dad76789", "iad")
OTHER = Machine("shop", "3d8dd15c1ed778", "bos")
THERE = Target("shop", id=OTHER.id)
NOW = 1_800_000_000.0
SECRET = b"shared by all"


def replays(me: Machine = ME, secret: bytes | None = SECRET) -> Replays:
    return Replays(me, secret, 30.0)


def src(header: bytes) -> bytes:
    """Fly-Replay-Src as the proxy makes it of a Fly-Replay."""
    return b"instance=148e21dad76789;region=iad;t=1800000000000000;state=" + header.partition(b"state=")[2]


def request(*lines: str) -> RequestHead:
    text = "\r\n".join(["POST /ann HTTP/1.1", "Host: x", *lines, "", ""])
    return RequestParser().parse(text.encode())


def test_inside_an_app_the_target_is_hard_and_the_request_comes_back_if_it_cannot_be_reached() -> None:
    value = replays().header(THERE, "ann", 0, NOW).decode()
    assert value.startswith("instance=3d8dd15c1ed778;timeout=30000ms;fallback=force_self;state=flyatc.1.1800000000.m.")


def test_another_app_is_named_and_given_all_the_time_it_needs() -> None:
    value = replays().header(Target("pdf", id=OTHER.id), "ann", 0, NOW).decode()
    assert value.startswith("app=pdf;instance=3d8dd15c1ed778;state=")
    assert "timeout" not in value
    assert "fallback" not in value


def test_a_region_is_a_target_too() -> None:
    value = replays().header(Target("shop", region="bos"), "ann", 0, NOW)
    assert value.startswith(b"region=bos;timeout=")
    assert replays(OTHER).source([src(value)], "ann", NOW).sent
    assert not replays(ME).source([src(value)], "ann", NOW).sent


def test_a_replay_by_one_of_our_machines_is_recognised_by_its_target_only() -> None:
    value = src(replays().header(THERE, "ann", 1, NOW))
    assert replays(OTHER).source([value], "ann", NOW + 20) == Source(hops=2, sent=True)
    assert replays(OTHER).source([value], "bob", NOW + 20) == Source(hops=2, sent=False)
    assert replays(ME).source([value], "ann", NOW + 20) == Source(hops=2, sent=False)
    assert replays(OTHER).source([value], "ann", NOW + 301) == Source(hops=2, sent=False)
    assert replays(OTHER, b"another").source([value], "ann", NOW) == Source(hops=2, sent=False)


def test_without_a_shared_secret_no_replay_is_trusted_and_loops_end_all_the_same() -> None:
    value = src(replays(secret=None).header(THERE, "ann", 3, NOW))
    assert replays(OTHER, None).source([value], "ann", NOW) == Source(hops=4, sent=False)


def test_headers_that_a_client_writes_itself_cause_no_replay() -> None:
    mine = [b"instance=148e21dad76789", b"state=flyatc.1.1800000000.m." + b"0" * 32, b"state=1", b"", b"\xff;=;;"]
    assert replays(OTHER).source(mine, "ann", NOW) == Source(hops=1, sent=False)
    assert replays(OTHER).source([b"x" * 5000 + b";state=flyatc.9.1.m." + b"0" * 32], "ann", NOW) == Source()


def test_a_forged_header_beside_the_proxys_does_not_hide_it() -> None:
    genuine = src(replays().header(THERE, "ann", 1, NOW))
    for pair in ([b"state=x", genuine], [genuine, b"state=x"]):
        assert replays(OTHER).source(pair, "ann", NOW) == Source(hops=2, sent=True)


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=63), st.integers(0, 98))
def test_a_header_written_is_a_header_read_and_nothing_in_it_needs_quotes(user: str, hops: int) -> None:
    value = replays().header(THERE, user, hops, NOW)
    state = value.partition(b"state=")[2]
    assert not set(state) & set(b'";,= \r\n')
    assert replays(OTHER).source([src(value)], user, NOW) == Source(hops + 1, True)


@given(st.binary(max_size=300))
def test_no_header_breaks_the_reading(value: bytes) -> None:
    replays().source([value], "ann", NOW)
    reported = replay.failed([value])
    assert reported is not None
    assert str(reported).isascii()


def test_the_reason_of_a_failure_is_reported_in_the_proxys_words() -> None:
    value = b"instance=3d8dd15c1ed778;app=shop;region=bos;replay_source=x;reason=no_candidate;elapsed_ms=800"
    assert replay.failed([value]) == Failed("no_candidate", "800")
    assert replay.failed([b"reason=<b>;elapsed_ms=-"]) == Failed("unknown reason", "unknown")
    assert replay.failed([]) is None


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), None),
        (("Content-Length: 1000000",), None),
        (("Content-Length: 1000001",), 413),
        (("Transfer-Encoding: chunked",), 411),
    ],
)
def test_only_what_the_proxy_can_replay_is_replayed(lines: tuple[str, ...], status: int | None) -> None:
    unfit = replay.too_much(request(*lines))
    assert (None if unfit is None else unfit[0]) == status


def test_an_owner_that_is_no_machine_of_fly_never_reaches_a_header() -> None:
    assert replay.target("shop/3d8dd15c1ed778") == THERE
    for owner in (
        "local/local-0123456789ab",
        "shop/a;b=c",
        "shop/",
        "",
        "sh op/3d8dd15c1ed778",
        "shop/3d8dd15c1ed778\r\n",
    ):
        assert replay.target(owner) is None, owner


def test_the_secret_is_ours_or_that_of_the_bucket() -> None:
    assert replay.secret({}) is None
    assert replay.secret({"AWS_SECRET_ACCESS_KEY": "b"}) == b"b"
    assert replay.secret({"AWS_SECRET_ACCESS_KEY": "b", "FLYATC_SECRET": "a"}) == b"a"


# --- placement ---


def test_a_request_is_not_sent_on_where_that_would_not_end() -> None:
    def why(to: Target = THERE, source: Source = Source(), failed: Failed | None = None) -> str | None:  # noqa: B008
        return placement_rules.refusal(to, ME, source, failed)

    assert why() is None
    assert why(source=Source(hops=3)) is None
    assert why(source=Source(hops=4)) == "it has been replayed 4 times: the machines do not agree on where it belongs"
    assert why(failed=Failed("timeout", "30000")) == (
        "Fly Proxy could not reach machine 3d8dd15c1ed778: timeout after 30000 ms"
    )
    assert why(to=Target("shop", id=ME.id)) is not None
    assert why(to=Target("other", id=ME.id)) is None


# --- who we are ---


def test_on_fly_the_environment_identifies_the_machine() -> None:
    environ = {
        "FLY_APP_NAME": "shop",
        "FLY_MACHINE_ID": "148e21dad76789",
        "FLY_REGION": "iad",
        "FLY_PRIVATE_IP": "fdaa::2",
    }
    assert environment.this_machine(environ) == Machine("shop", "148e21dad76789", "iad", "fdaa::2")
    for gone in ("FLY_APP_NAME", "FLY_MACHINE_ID"):
        assert environment.this_machine(environ | {gone: ""}) is None
    assert environment.this_machine({}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("FLY_APP_NAME", "Shop"), ("FLY_MACHINE_ID", "a;b"), ("FLY_MACHINE_ID", "UPPER1234"), ("FLY_REGION", "iad,ord")],
)
def test_names_which_fly_never_gives_are_refused(name: str, value: str) -> None:
    environ = {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": "148e21dad76789", "FLY_REGION": "iad"}
    with pytest.raises(FlyatcError, match=name):
        environment.this_machine(environ | {name: value})
