"""Users without a machine get one: on ``flyatc sim``, with real daemons."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.fly import Reported, ask
from whole.daemon import SLOWNESS, config, eventually
from whole.simulated import Sim

USERS = 'users: {"*": {match: "[0-9]{1,4}", provision: true}}'
MOST = 4


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    one = Sim(tmp_path_factory.mktemp("sim"), config(users=USERS, top=f"fly: {{machines_most: {MOST}}}"))
    yield one
    one.process.send_signal(signal.SIGINT)
    code = one.process.wait(60 * SLOWNESS)
    logs = {path.parent.name: path.read_text() for path in one.folder.glob(".flyatc-sim/*/machine.log")}
    print(one.out.read_text()[-10_000:], *(f"--- {name}\n{text[-8_000:]}" for name, text in logs.items()), sep="\n")
    assert code == 0
    assert not [name for name, text in logs.items() if "unexpected error" in text or "Traceback" in text]


def visit(sim: Sim, path: str, method: str = "GET", **headers: str) -> Reported:
    return ask(sim.port, method, path, None, {name.replace("_", "-"): value for name, value in headers.items()})


def test_a_user_without_a_machine_gets_one_though_two_get_its_requests_at_once(sim: Sim) -> None:
    at = sim.ids()
    assert set(at) == {"m1", "m2"}
    with ThreadPoolExecutor(4) as pool:
        came = list(pool.map(lambda one: visit(sim, "/300/add", "POST", fly_force_instance_id=one), [*at.values()] * 2))
    assert sorted(one.json["count"] for one in came) == [1, 2, 3, 4]
    assert set(sim.ids()) == {"m1", "m2", "user-300"}
    assert (sim.folder / ".flyatc-sim" / "user-300" / "data" / "tenants" / "300").is_dir()
    assert len([line for name in at for line in sim.reported(name, "machine made for user")]) == 1
    sim.cli("stop", "user-300")
    assert visit(sim, "/300/add", "POST").json["count"] == 5


def test_no_more_are_made_than_may_be_and_names_which_do_not_match_get_none(sim: Sim) -> None:
    def made() -> bool:
        return visit(sim, "/400/count").status == 200  # 429 of the simulator's API is no reason to wait for long

    eventually(made, 20, "a machine for 400")
    refused = visit(sim, "/500/count")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    assert visit(sim, "/12345/count").status == 404
    assert set(sim.ids()) == {"m1", "m2", "user-300", "user-400"}


def test_without_the_api_strangers_wait_and_all_others_are_served(sim: Sim) -> None:
    assert sim.cli("fail", "--api", "503", "--dns", "servfail").returncode == 0
    try:
        assert visit(sim, "/600/count").status == 503
        assert visit(sim, "/300/count").json["count"] == 5
        assert visit(sim, "/400/count").status == 200
    finally:
        assert sim.cli("fail").returncode == 0
