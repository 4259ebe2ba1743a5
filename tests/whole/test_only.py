"""A machine of one user: what becomes of the others, on Fly and outside."""

import time
from collections.abc import Iterator

import pytest

from fakes.dns import DnsServer
from flyatc.fly.environment import Machine
from flyatc.routing.replay import Replays, Target
from whole.daemon import Daemon, config
from whole.visits import serving

ME, FAR = "148e21dad76789", "e28650ce7d1d68"
ADDRESS, FAR_ADDRESS = "fdaa:0:1:a7b:1::2", "fdaa:0:1:a7b:9::2"
FLY = {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": ME, "FLY_REGION": "bos", "FLY_PRIVATE_IP": ADDRESS}
CONFIG = config(
    users='users: {ann: , pat: {machine: 148e21dad76789}, "*": {match: "[0-9]+"}}', server="  root: /customers"
)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("laptop"), CONFIG)
    try:
        yield daemon.start("--user", "100")
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Of 100. FAR has 200 in its metadata, and by mistake this one has 300 in its own."""
    with DnsServer().serving() as dns:
        for user, address in (("100", ADDRESS), ("200", FAR_ADDRESS), ("300", ADDRESS)):
            dns.add(f"{user}.customer_id.kv._metadata.shop.internal", "AAAA", address)
        dns.add_pointer(FAR_ADDRESS, f"{FAR}.vm.shop.internal.")
        env = FLY | {"CUSTOMER_ID": "100", "FLYATC_SECRET": "x", "FLYATC_RESOLVER": f"127.0.0.1:{dns.port}"}
        with serving(tmp_path_factory.mktemp("machine"), CONFIG, env) as daemon:
            yield daemon


@pytest.mark.parametrize("path", ["/customers/200", "/customers/200/count?x=1", "/customers/ann/"])
def test_outside_fly_others_are_answered_as_by_js_sqlite_in_tigris(laptop: Daemon, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = laptop.request(method, path)
        assert (answer.status, answer.headers["fly-replay"], answer.body) == (200, "instance=abcd1234", b"")
        assert answer.headers["content-length"] == "0"


def test_outside_fly_no_change_counts_as_done_and_no_other_user_is_started(laptop: Daemon) -> None:
    answer = laptop.post("/customers/200/add")
    assert (answer.status, answer.headers["fly-replay"]) == (409, "instance=abcd1234")
    assert laptop.get("/customers/nonesuch/").status == 404
    assert laptop.post("/customers/100/add").json["count"] == 1
    assert laptop.get("/customers/100").status == 308
    assert laptop.reported("user owned", user="100")
    assert not laptop.reported("user owned", user="200")
    assert laptop.reported("listening")[0]["only"] == "100"


def test_on_fly_others_are_sent_to_the_machine_with_them_in_its_metadata_and_no_one_else_exists(
    machine: Daemon,
) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = machine.request(method, "/customers/200/count")
        assert answer.status == 409
        assert str(answer.headers["fly-replay"]).startswith(f"instance={FAR};timeout=")
    assert machine.get("/customers/999/count").status == 404
    assert machine.get("/customers/ann/count").status == 404, (
        "the file names the user; but this machine may not take it"
    )
    assert machine.get("/customers/100/count").status == 200


def test_on_fly_a_machine_with_contradictory_settings_neither_serves_nor_replays_in_circles(
    machine: Daemon,
) -> None:
    for path in ("/customers/300/count", "/customers/pat/count"):
        answer = machine.get(path)
        assert (answer.status, answer.headers["fly-replay"]) == (503, None)
    sender = Replays(Machine("shop", FAR, "waw"), b"x", 30.0)
    value = sender.header(Target("shop", id=ME), "400", 0, time.time()).decode()
    source = f"instance={FAR};region=waw;t=1;state={value.partition('state=')[2]}"
    answer = machine.get("/customers/400/count", {"fly-replay-src": source})
    assert (answer.status, answer.headers["fly-replay"]) == (503, None)
    reported = machine.until_reported("request", user="400")
    assert reported["reason"] == "another machine sent this user here, and this one serves 100 only"
