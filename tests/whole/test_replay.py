"""Two machines on Fly with one store: a request at the wrong one is replayed to the right one by Fly Proxy."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.daemon import Answer, Daemon, config
from whole.visits import Line, get, parrot, request, serving

BOS, IAD = "148e21dad76789", "3d8dd15c1ed778"
GONE = "e28650ce7d1d68"  # a machine which the file names and no one has
USERS = f"""
users:
  ann: {{tenants: [one, two]}}
  bob:
  moved: {{region: iad}}
  fixed: {{machine: {IAD}}}
  lost: {{machine: {GONE}}}
  "*": {{match: "[0-9]+", region: bos}}
"""


def on_fly(machine: str, region: str) -> dict[str, str]:
    return {
        "FLY_APP_NAME": "shop",
        "FLY_MACHINE_ID": machine,
        "FLY_REGION": region,
        "FLYATC_SECRET": "of all machines",
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Daemon]]:
    """In bos and in iad; ann is at home in bos."""
    folder = tmp_path_factory.mktemp("pair")
    text = config(users=USERS).replace("{interval: 0}", f"{{interval: 0, url: 'file:{folder / 'shared'}'}}")
    with (
        serving(folder / "bos", text, on_fly(BOS, "bos")) as home,
        serving(folder / "iad", text, on_fly(IAD, "iad")) as away,
    ):
        assert home.post("/ann/one/add").status == 200
        yield home, away


def sent_to(answer: Answer) -> str:
    """The first field of the replay."""
    assert answer.status == 409, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return str(answer.headers["fly-replay"]).partition(";")[0]


def as_replayed(answer: Answer, via: str) -> dict[str, str]:
    """The header with which the proxy would deliver the request to where the answer says."""
    state = str(answer.headers["fly-replay"]).partition("state=")[2]
    return {"fly-replay-src": f"instance={via};region=iad;t=1800000000000000;state={state}"}


def rows(answer: Answer) -> int:
    assert answer.status == 200, answer.text
    return int(answer.json["count"])


def test_a_request_at_the_wrong_machine_is_replayed_to_the_holder(pair: tuple[Daemon, Daemon]) -> None:
    home, away = pair
    before = rows(home.get("/ann/one/count"))
    for path in ("/ann/one/count", "/ann/two/count"):
        answer = away.get(path)
        assert sent_to(answer) == f"instance={BOS}"
        assert ";timeout=30000ms;fallback=force_self;state=flyatc.1." in answer.headers["fly-replay"]
    answer = away.post("/ann/one/add", b"x" * 100_000)
    assert sent_to(answer) == f"instance={BOS}"
    assert rows(home.post("/ann/one/add", headers=as_replayed(answer, IAD))) == before + 1
    reported = away.until_reported("request", user="ann", status=409)
    assert reported["reason"].startswith(f"replayed to machine {BOS}: ann is served by machine {BOS} in bos")


def test_a_user_is_sent_to_the_region_or_machine_of_the_file_before_it_is_acquired(
    pair: tuple[Daemon, Daemon],
) -> None:
    home, away = pair
    assert sent_to(home.get("/moved/count")) == "region=iad"
    assert sent_to(home.get("/fixed/count")) == f"instance={IAD}"
    assert sent_to(away.get("/7/count")) == "region=bos"
    assert away.get("/moved/count").status == away.get("/fixed/count").status == home.get("/7/count").status == 200


def test_a_replay_by_one_of_our_machines_is_served_though_the_file_says_otherwise_here(
    pair: tuple[Daemon, Daemon],
) -> None:
    """A deploy is under way, and the machines have read different files."""
    home, away = pair
    sent = home.get("/lost/count")
    assert sent_to(sent) == f"instance={GONE}"
    assert sent_to(away.get("/lost/count", headers=as_replayed(sent, BOS))) == f"instance={GONE}", "not sent to it"
    region = away.get("/8/count")
    assert sent_to(region) == "region=bos"
    assert home.get("/8/count", headers=as_replayed(region, IAD)).status == 200


def test_a_request_that_could_not_be_replayed_ends_in_503(pair: tuple[Daemon, Daemon]) -> None:
    _, away = pair
    failed = {"fly-replay-failed": f"instance={BOS};app=shop;region=bos;reason=no_candidate;elapsed_ms=7500"}
    answer = away.get("/ann/one/count", headers=failed | {"accept": "text/html"})
    assert answer.status == 503
    assert answer.headers["fly-replay"] is None
    assert answer.headers["Retry-After"]
    assert answer.headers["Flyatc-Owner"] == f"shop/{BOS}"
    assert "<!doctype html>" in answer.text
    away.until_reported("request", status=503, reason=f"Fly Proxy could not reach machine {BOS}: no_candidate after "
                    f"7500 ms. ann is served by machine {BOS} in bos")  # fmt: skip


def test_a_request_which_goes_round_in_circles_is_ended(pair: tuple[Daemon, Daemon]) -> None:
    _, away = pair
    answer = away.get("/ann/one/count")
    for hops in range(2, 5):
        answer = away.get("/ann/one/count", headers=as_replayed(answer, BOS))
        assert f"state=flyatc.{hops}." in answer.headers["fly-replay"]
    answer = away.get("/ann/one/count", headers=as_replayed(answer, BOS))
    assert answer.status == 503
    assert answer.headers["fly-replay"] is None


def test_what_a_client_claims_does_not_make_a_machine_take_a_user(pair: tuple[Daemon, Daemon]) -> None:
    home, _ = pair
    claims = {
        "fly-replay-src": f"instance={IAD};region=iad;t=1;state=flyatc.1.1800000000.m.{'0' * 32}",
        "fly-force-instance-id": BOS,
        "fly-prefer-region": "bos",
        "fly-preferred-instance-unavailable": IAD,
        "fly-replay-cache-status": "hit",
    }
    assert sent_to(home.get("/lost/count", headers=claims)) == f"instance={GONE}"
    failed = home.get("/lost/count", headers={"fly-replay-failed": "reason=timeout;elapsed_ms=1"})
    assert failed.status == 503
    reported = home.until_reported("request", user="lost", status=503)
    assert reported["reason"].endswith(
        f"tenants.yaml pins the user to machine {GONE}. If it is gone for good, pin another machine or remove the "
        "pin: then the machine that is asked takes over"
    )
    assert not home.reported("user owned", user="lost")


@pytest.mark.parametrize(("framing", "status"), [("Content-Length: 1500000", 413), ("Transfer-Encoding: chunked", 411)])
def test_a_body_which_the_proxy_cannot_replay_is_refused_and_never_executed_here(
    pair: tuple[Daemon, Daemon], framing: str, status: int
) -> None:
    home, away = pair
    before = rows(home.get("/ann/one/count"))
    with Line(away) as line:
        reply = line.send(f"POST /ann/one/add HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode()).reply()
    assert reply.status == status
    assert reply.one("fly-replay") is None
    assert rows(home.get("/ann/one/count")) == before


def test_an_upgrade_is_replayed_before_it_is_accepted(pair: tuple[Daemon, Daemon]) -> None:
    _, away = pair
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
    with Line(away) as line:
        reply = line.send(request("/ann/one/socket", *upgrade)).reply()
        assert reply.status == 409
        assert (reply.one("fly-replay") or "").startswith(f"instance={BOS};")
        assert reply.one("upgrade") is None


def test_a_user_without_a_machine_is_taken_by_the_machine_that_gets_the_request(pair: tuple[Daemon, Daemon]) -> None:
    home, away = pair
    assert away.get("/bob/count").status == 200
    assert sent_to(home.get("/bob/count")) == f"instance={IAD}"


def test_a_machine_whose_name_no_header_can_carry_serves_and_says_that_it_replays_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, parrot(), on_fly("m_1", "iad")) as daemon:
        assert get(daemon, "/ann/seen").status == 200
        reported = daemon.until_reported("no request is replayed to other machines")
        assert reported["reason"] == "FLY_MACHINE_ID is 'm_1', which is not a valid name on Fly"


@pytest.mark.parametrize("trusted", [False, True])
def test_an_app_sends_clients_away_only_where_it_may(tmp_path: Path, trusted: bool) -> None:
    top = "replay: {trust_app: true}" if trusted else ""
    say = "/ann/say?hex=" + (
        b"HTTP/1.1 200 OK\r\nfly-replay: app=other\r\nContent-Type: Application/vnd.Fly.replay+json\r\n"
        b'Content-Length: 15\r\n\r\n{"app":"other"}'
    ).hex()  # fmt: skip
    with serving(tmp_path, parrot(top=top)) as daemon:
        reply = get(daemon, say)
        assert reply.status == http.client.OK
        assert reply.body == b'{"app":"other"}'
        assert reply.one("fly-replay") == ("app=other" if trusted else None)
        assert reply.one("content-type") == ("Application/vnd.Fly.replay+json" if trusted else None)
