"""Plans for users carried out on the simulator, whose machines are puppets with the real commands in them."""

from pathlib import Path

import msgspec
import pytest

import fork_server
from fakes.fly import Fly, small_fly
from flyatc.admin import users_plan, users_view
from flyatc.admin.users_steps import Cordon, Destroy, Plan, Settle, Stop, Unmark
from flyatc.config import load
from flyatc.config.schema import Config
from flyatc.fly import environment
from flyatc.fly.new_machine import LEFT
from flyatc.kit.errors import FlyatcError
from flyatc.objects.folder import Disk
from flyatc.ownership.record import Data, Holder, Owner, State, Successor, owner_key, write
from flyatc.sim.simulator import TOKEN
from slowness import SLOWNESS
from whole.daemon import clean_environment

KEY = "customer_id"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    text = f"app: {{command: [x]}}\nstorage: {{url: 'file:{tmp_path / 'store'}'}}\nfly: {{metadata: {KEY}}}\n"
    (tmp_path / "tenants.yaml").write_text(text + "users: {'*': {match: '[0-9]+'}}\n")
    monkeypatch.setenv("FLYATC_CONFIG", str(tmp_path / "tenants.yaml"))  # in the machines
    return load.load(tmp_path / "tenants.yaml", {})


def environ(fly: Fly) -> dict[str, str]:
    return {
        "FLY_API_TOKEN": TOKEN,
        "FLY_FLAPS_BASE_URL": f"http://127.0.0.1:{fly.simulator.api_port}",
        "FLY_APP_NAME": "sim",
    }


def record(folder: Path, user: str) -> Path:
    return folder / "store" / owner_key(user)


def had(folder: Path, user: str, machine: str, state: State) -> None:
    holder = Holder(app="sim", machine=machine, region="iad", boot="b")
    one = Owner(epoch=3, state=state, holder=holder, nonce="n", ttl=30.0, data=Data(line=1, since=1))
    record(folder, user).parent.mkdir(parents=True, exist_ok=True)
    record(folder, user).write_bytes(write(one))
    Disk(folder / "store").open()


async def test_a_user_is_handed_over_and_its_old_machine_is_destroyed(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_plan, "SETTLE", 0.0)
    said: list[str] = []
    async with small_fly(tmp_path / "fly", 2) as fly, users_view.opened(config, environ(fly), None) as desk:
        m1, m2 = fly.id("m1"), fly.id("m2")
        had(tmp_path, "100", m1, State.RELEASED)
        plan = users_plan.move(await desk.look(), "100", to=None, region="ams", pin=None, destroy=True)
        await desk.carry_out(plan, said.append)
        created = fly["user-100"].record
        assert (created.region, created.metadata) == ("ams", {KEY: "100"})
        assert {one.record.id for one in fly.simulator.machines} == {m2, created.id}
        found = msgspec.json.decode(record(tmp_path, "100").read_bytes(), type=Owner)
        assert (found.state, found.to) == (State.RELEASED, Successor("sim", created.id))
        assert [line.split()[1] for line in said if line[0] != " "] == [
            "make", "have", "take", "wait", "stop", "destroy"
        ]  # fmt: skip


async def test_what_a_user_has_left_is_remembered_and_a_plan_that_fails_leaves_no_machine_without_clients(
    config: Config, tmp_path: Path
) -> None:
    async with small_fly(tmp_path / "fly", 2) as fly, users_view.opened(config, environ(fly), None) as desk:
        m1, m2 = fly.id("m1"), fly.id("m2")
        await desk.carry_out(Plan("200", (Unmark(m2, KEY, "200"), Settle(0.0))), lambda _: None)
        assert fly["m2"].record.metadata == {LEFT: "200"}
        with pytest.raises(FlyatcError, match="404"):
            await desk.carry_out(Plan("100", (Cordon(m1), Stop("00000000000000"))), lambda _: None)
        assert not fly["m1"].cordoned
        had(tmp_path, "100", m1, State.HELD)
        with pytest.raises(FlyatcError, match="run the command again"):
            await desk.carry_out(Plan("100", (Cordon(m1), Stop(m1), Destroy(m1, "100"))), lambda _: None)
        assert fly["m1"].state == "stopped"


def test_which_app_is_meant_is_said_or_in_the_environment_or_in_fly_toml(tmp_path: Path) -> None:
    with pytest.raises(FlyatcError, match="--app NAME"):
        environment.app_name(None, {}, tmp_path)
    (tmp_path / "fly.toml").write_text('app = "shop"\n[http_service]\n')
    assert environment.app_name(None, {}, tmp_path) == "shop"
    assert environment.app_name(None, {"FLY_APP_NAME": "here"}, tmp_path) == "here"
    assert environment.app_name("said", {"FLY_APP_NAME": "here"}, tmp_path) == "said"
    with pytest.raises(FlyatcError, match="no name of an app"):
        environment.app_name("../shop", {}, tmp_path)
    (tmp_path / "fly.toml").write_text("app = ")
    with pytest.raises(FlyatcError, match="cannot be read"):
        environment.app_name(None, {}, tmp_path)


@pytest.mark.parametrize(
    ("fly", "environ", "reported"),
    [
        ("", {}, "fly.metadata is not set"),
        ("", {}, "Without Fly, users are the section users of tenants.yaml"),
        ("fly: {metadata: customer_id}", {}, "--app NAME"),
        ("fly: {metadata: customer_id}", {"FLY_APP_NAME": "shop"}, "fly tokens create deploy"),
    ],
)
def test_missing_settings_are_reported_with_what_to_do(
    tmp_path: Path, fly: str, environ: dict[str, str], reported: str
) -> None:
    (tmp_path / "tenants.yaml").write_text(f"app: {{command: [x]}}\nusers: {{ann: }}\n{fly}\n")
    done = fork_server.run(["users", "add", "ann"], tmp_path, clean_environment() | environ, 60 * SLOWNESS)
    assert done.returncode == 1
    assert reported in done.stderr
