"""Two machines on Fly, a third that is played by the test, and requests which Fly Proxy cannot replay."""

import contextlib
import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakes.dns import DnsServer
from flyatc.fly.environment import Machine
from flyatc.process.ports import PortPool
from flyatc.routing.replay import MOST_HOPS, Target
from flyatc.routing.request_signature import ForwardedRequest, RequestSigner
from whole.daemon import Answer, Daemon, config, eventually
from whole.visits import Line, Reply, serving

BOS, IAD, FAR = "148e21dad76789", "3d8dd15c1ed778", "e28650ce7d1d68"
ASLEEP, DEAF = "0a1b2c3d4e5f60", "6f5e4d3c2b1a00"
ADDRESSES = {one: f"fdaa:0:1:a7b:{number}::2" for number, one in enumerate((BOS, IAD, FAR, DEAF), 1)}
SECRET = "of all machines"
USERS = f"""
users:
  ann: {{tenants: [one]}}
  far: {{machine: {FAR}}}
  asleep: {{machine: {ASLEEP}}}
  deaf: {{machine: {DEAF}}}
  waw: {{region: waw}}
  bos: {{region: bos}}
"""
BIG = os.urandom(1_500_000)
DIGEST = hashlib.sha256(BIG).hexdigest()


@dataclass
class Far:
    """The third machine: what comes to it, octet by octet, and what it says on hearing ``mark``; then it goes."""

    port: int = 0
    mark: bytes = b""
    says: bytes = b""
    heard: list[bytes] = field(default_factory=list)

    def answers(self, says: bytes, mark: bytes = b"\r\n\r\n") -> None:
        self.says, self.mark = says, mark
        self.heard.clear()

    @contextlib.contextmanager
    def serving(self) -> Iterator["Far"]:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        thread = threading.Thread(target=self._serve, args=[listener], name="the far machine")
        thread.start()
        try:
            yield self
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            listener.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                heard = b""
                while self.mark not in heard and (data := connection.recv(65536)):
                    heard += data
                self.heard.append(heard)
                connection.sendall(self.says)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass


@dataclass
class World:
    home: Daemon
    away: Daemon
    far: Far
    private: dict[str, int]


def on_fly(machine: str, region: str, network: Path) -> dict[str, str]:
    return {
        "FLY_APP_NAME": "shop",
        "FLY_MACHINE_ID": machine,
        "FLY_REGION": region,
        "FLY_PRIVATE_IP": ADDRESSES[machine],
        "FLYATC_SECRET": SECRET,
        "FLYATC_NETWORK": str(network),
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Ann is at home, in bos."""
    folder, ports = tmp_path_factory.mktemp("private"), PortPool()
    with DnsServer().serving() as dns, Far().serving() as far:
        for machine, address in ADDRESSES.items():
            dns.add(f"{machine}.vm.shop.internal", "AAAA", address)
        dns.add("bos.shop.internal", "AAAA", ADDRESSES[BOS], ADDRESSES[IAD])
        private = {BOS: ports.take(), IAD: ports.take(), FAR: far.port, DEAF: ports.take()}
        network = folder / "network.json"
        network.write_text(json.dumps({ADDRESSES[one]: f"127.0.0.1:{port}" for one, port in private.items()}))
        top = f'fly: {{resolver: "127.0.0.1:{dns.port}"}}\nreplay: {{timeout: 20s}}\nlimits: {{request_body: 3MB}}'
        text = config(users=USERS, top=top).replace(
            "{interval: 0}", f"{{interval: 0, url: 'file:{folder / 'shared'}'}}"
        )
        with (
            serving(folder / "bos", text, on_fly(BOS, "bos", network)) as home,
            serving(folder / "iad", text, on_fly(IAD, "iad", network)) as away,
        ):
            assert home.post("/ann/one/add").status == 200
            yield World(home, away, far, private)


def rows(answer: Answer) -> int:
    assert answer.status == 200, answer.text
    return int(answer.json["count"])


def in_chunks(body: bytes, size: int = 100_000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def head(target: str, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: shop.example", *lines, "", ""]).encode()


def sent(daemon: Daemon, data: bytes) -> Reply:
    with Line(daemon, timeout=30) as line:
        return line.send(data).reply()


SIZED = head("/ann/one/echo?x=%20a&y=/b//c", f"Content-Length: {len(BIG)}") + BIG
UNSIZED = head("/ann/one/echo?x=%20a&y=/b//c", "Transfer-Encoding: chunked") + in_chunks(BIG)


@pytest.mark.parametrize("data", [SIZED, UNSIZED], ids=["1.5 MB", "chunked"])
def test_it_lands_at_the_owner_as_it_was_with_path_and_query_once(world: World, data: bytes) -> None:
    reply = sent(world.away, data)
    assert reply.status == 200, reply
    assert (reply.json["sha256"], reply.json["length"]) == (DIGEST, len(BIG))
    assert reply.json["path"] == "/ann/one/echo?x=%20a&y=/b//c"
    identity = reply.one("x-request-id")
    here = world.away.until_reported("request", request_id=identity)
    there = world.home.until_reported("request", request_id=identity)
    assert here["reason"].startswith(f"forwarded to shop/{BOS}: ann is served by machine {BOS} in bos")
    assert (here["path"], here["query"]) == (there["path"], there["query"]) == ("/ann/one/echo", "x=%20a&y=/b//c")
    assert there["reason"] is None


def test_it_is_executed_once_and_not_here(world: World) -> None:
    before = rows(world.home.get("/ann/one/count"))
    assert sent(world.away, head("/ann/one/add", f"Content-Length: {len(BIG)}") + BIG).json == {"count": before + 1}
    assert sent(world.away, head("/ann/one/add", "Transfer-Encoding: chunked") + b"0\r\n\r\n").json == {
        "count": before + 2
    }
    assert rows(world.home.get("/ann/one/count")) == before + 2
    assert not world.away.reported("user owned", user="ann")


def test_the_owner_gets_the_headers_that_fly_proxy_would_have_sent(world: World) -> None:
    lines = (
        "Fly-Client-IP: 203.0.113.9",
        "X-Forwarded-For: 203.0.113.9, 66.241.124.1",
        "X-Forwarded-Proto: https",
        "X-Request-Id: mine",
        "X-Request-Start: t=17",
        "Fly-Region: iad",
        "Flyatc-Seal: v1 mine",
        "fly-replay-src: state=flyatc.1",
        "Transfer-Encoding: chunked",
    )
    direct, by_way = (
        dict(sent(daemon, head("/ann/one/echo", *lines) + b"0\r\n\r\n").json["headers"])
        for daemon in (world.home, world.away)
    )
    for one in ("Flyatc-Seal", "fly-replay-src"):
        assert one not in by_way
        del direct[one]
    assert by_way == direct
    assert by_way["X-Forwarded-For"] == "203.0.113.9, 66.241.124.1, 127.0.0.1"
    both = eventually(
        lambda: world.home.reported("request", request_id="mine")[1:] and world.home.reported("request"), 10
    )
    assert {line["remote"] for line in both if line["request_id"] == "mine"} == {"203.0.113.9"}


def test_what_fly_proxy_can_replay_is_replayed(world: World) -> None:
    answer = world.away.post("/ann/one/add", b"x" * 100_000)
    assert (answer.status, answer.headers["fly-replay"].partition(";")[0]) == (409, f"instance={BOS}")


def test_a_client_that_waits_for_a_continue_gets_it_from_the_app(world: World) -> None:
    with Line(world.away) as line:
        line.send(head("/ann/one/continue", "Expect: 100-continue", "Transfer-Encoding: chunked"))
        assert line.reply().status == 100
        assert line.send(in_chunks(b"hello")).reply().status == 200
        line.socket.close()
    refused = sent(
        world.away, head("/ann/one/continue?early=417", "Expect: 100-continue", "Transfer-Encoding: chunked")
    )
    assert refused.status == 417


def test_head_body_and_trailers_arrive_octet_by_octet(world: World) -> None:
    says = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n"
    world.far.answers(says, b"X-Sum: 5\r\n\r\n")
    body = b"5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"
    data = head("/far/a%2Fb//c;d?x=1?y&&", "Transfer-Encoding: chunked", "Trailer: X-Sum", "X-A:  b c")
    reply = sent(world.away, data + body)
    assert (reply.status, reply.body, reply.trailers) == (200, b"ok", [("X-Sum", "2")])
    (heard,) = world.far.heard
    assert heard.startswith(b"POST /far/a%2Fb//c;d?x=1?y&& HTTP/1.1\r\nHost: shop.example\r\nX-A:  b c\r\n")
    assert heard.endswith(b"\r\nConnection: close\r\n\r\n" + body)


def test_a_response_which_comes_early_is_given_early(world: World) -> None:
    with Line(world.away) as line:
        line.send(head("/ann/one/echo", "Transfer-Encoding: chunked"))
        reply = line.send(in_chunks(b"x" * 3_500_000)[:-5]).reply()
    assert reply.status == 413
    world.far.answers(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")
    with Line(world.away) as line:
        reply = line.send(head("/far/x", "Content-Length: 2000000") + b"x" * 1000).reply()
    assert (reply.status, reply.body) == (413, b"large")
    assert len(world.far.heard) == 1


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 2"], ids=["silence", "half a head"])
def test_an_owner_that_dies_amid_an_upload_is_502_and_it_is_not_tried_again(world: World, says: bytes) -> None:
    world.far.answers(says, b"x" * 10_000)
    reply = sent(world.away, head("/far/x", "Content-Length: 2000000") + b"x" * 20_000)
    assert reply.status == 502
    assert len(world.far.heard) == 1
    reported = world.away.until_reported("request", request_id=reply.one("x-request-id"))
    assert reported["reason"].startswith(
        f"forwarded to shop/{FAR}: tenants.yaml pins the user to machine {FAR}; machine {FAR} "
    )


def test_an_owner_that_dies_amid_its_response_cuts_the_clients_connection(world: World) -> None:
    world.far.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    reply = sent(world.away, head("/far/x", "Transfer-Encoding: chunked") + b"0\r\n\r\n")
    assert (reply.status, reply.complete) == (200, False)
    assert len(world.far.heard) == 1


def test_a_client_that_leaves_amid_an_upload_is_gone_on_both_machines(world: World) -> None:
    with Line(world.away) as line:
        line.send(head("/ann/one/upload", "X-Request-Id: left", "Content-Length: 2000000", "Expect: 100-continue"))
        assert line.reply().status == 100, "the app reads it"
        line.send(b"x" * 1_000_000)
    here = world.away.until_reported("request", request_id="left")
    assert (here["status"], here["reason"].rpartition("; ")[2]) == (499, "the client left")
    assert world.home.until_reported("request", request_id="left")["status"] == 499


def test_a_refused_signature_is_distinguished_from_an_app_that_forbids(world: World) -> None:
    for marked, status in ((b"Flyatc-Seal: refused\r\n", 503), (b"", 403)):
        world.far.answers(b"HTTP/1.1 403 Forbidden\r\n%bContent-Length: 0\r\n\r\n" % marked)
        reply = sent(world.away, head("/far/x", "Transfer-Encoding: chunked") + b"0\r\n\r\n")
        assert reply.status == status
    reported = world.away.until_reported("request", user="far", status=503)
    assert "it refuses our signature" in reported["reason"]


def test_a_machine_that_sleeps_and_cannot_be_woken_is_503(world: World) -> None:
    reply = sent(world.away, head("/asleep/x", "Content-Length: 2000000"))
    assert reply.status == 503
    assert reply.one("retry-after")
    assert reply.one("flyatc-owner") == f"shop/{ASLEEP}"
    reported = world.away.until_reported("request", user="asleep")
    assert "it does not run" in reported["reason"]
    assert "fly secrets set FLY_API_TOKEN" in reported["reason"]
    assert sent(world.away, head("/waw/x", "Content-Length: 2000000")).status == 503


def test_a_client_need_not_wait_for_a_machine_which_does_not_listen(world: World) -> None:
    with Line(world.away) as line:
        line.send(head("/deaf/x", "Content-Length: 2000000", "X-Request-Id: impatient") + b"x" * 10_000)
        answer = sent(world.away, head("/ann/one/count", "Transfer-Encoding: chunked") + b"0\r\n\r\n")
        assert answer.status == 200, "no one else waits for it"
    reported = world.away.until_reported("request", request_id="impatient")
    assert (reported["status"], reported["reason"]) == (499, "the client left while connecting to the other machine")


def test_a_region_is_any_other_machine_in_it(world: World) -> None:
    reply = sent(world.away, head("/bos/echo", f"Content-Length: {len(BIG)}") + BIG)
    assert (reply.status, reply.json["sha256"]) == (200, DIGEST)
    assert world.home.until_reported("request", user="bos")["status"] == 200


# --- the private door ---


def by(machine: str, what: ForwardedRequest, target: str, *, late: float = 0.0, secret: str = SECRET) -> str:
    """As machine FAR seals for another."""
    seals = RequestSigner(Machine("shop", FAR, "waw"), secret.encode())
    value = seals.sign(Target("shop", id=machine), b"POST", target.encode(), what, time.time() + late,
                       secrets.token_bytes(16))  # fmt: skip
    return f"Flyatc-Seal: {value.decode()}"


def knock(world: World, machine: str, *lines: str, target: str = "/ann/one/add") -> Reply:
    """At the private door of a machine."""
    with Line(Daemon(Path(), "", port=world.private[machine])) as line:
        return line.send(head(target, *lines, "Transfer-Encoding: chunked") + b"0\r\n\r\n").reply()


def test_a_request_without_a_valid_signature_is_refused_and_learns_nothing(world: World) -> None:
    before, ann = rows(world.home.get("/ann/one/count")), ForwardedRequest("ann", 1, "")
    good = by(BOS, ann, "/ann/one/add")
    assert knock(world, BOS, good).json == {"count": before + 1}
    bad = {
        "it has no signature": (),
        "its signature was used before": (good,),
        "its signature was made": (by(BOS, ann, "/ann/one/add", late=-60),),
        "its signature is not valid": (by(BOS, ann, "/ann/one/count"),),
        "its signature cannot be parsed": (by(BOS, ann, "/ann/one/add"), by(BOS, ann, "/ann/one/add")),
        "it was sent as a request of bos": (by(BOS, ForwardedRequest("bos", 1, ""), "/ann/one/add"),),
    }
    for reason, lines in bad.items():
        reply = knock(world, BOS, *lines)
        assert (reply.status, reply.body, reply.one("flyatc-seal")) == (403, b"", "refused")
        reported = world.home.until_reported("request", request_id=reply.one("x-request-id"))
        assert reported["reason"].startswith(reason)
    for forged in (by(IAD, ann, "/ann/one/add"), by(BOS, ann, "/ann/one/add", secret="guessed")):
        assert knock(world, BOS, forged).status == 403
    assert rows(world.home.get("/ann/one/count")) == before + 1


def test_only_users_are_served_there(world: World) -> None:
    for target in ("/", "/metrics", "/healthz", "/v1/status"):
        assert knock(world, BOS, by(BOS, ForwardedRequest("ann", 1, ""), target), target=target).status == 404


def test_a_machine_which_lost_the_user_hands_on_until_it_was_enough(world: World) -> None:
    before = rows(world.home.get("/ann/one/count"))
    seal = by(IAD, ForwardedRequest("ann", MOST_HOPS - 1, ""), "/ann/one/add")
    assert knock(world, IAD, seal).json == {"count": before + 1}
    reply = knock(world, IAD, by(IAD, ForwardedRequest("ann", MOST_HOPS, ""), "/ann/one/add"))
    assert (reply.status, reply.one("fly-replay")) == (503, None)
    reported = world.away.until_reported("request", request_id=reply.one("x-request-id"))
    assert "the machines do not agree" in reported["reason"]
    assert rows(world.home.get("/ann/one/count")) == before + 1
