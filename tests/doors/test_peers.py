"""Other machines on the private network, found and woken at the simulator, whose machines run the puppet."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fakes.fly import Fly, small_fly
from flyatc.config.schema_sections import Listen
from flyatc.daemon.peers import PeerDialer
from flyatc.edge.peer_forward import Unreachable
from flyatc.fly.api import MachinesApi
from flyatc.fly.dns_client import Dns
from flyatc.fly.environment import Machine
from flyatc.routing.replay import Target
from flyatc.sim.simulator import TOKEN


@asynccontextmanager
async def ways(fly: Fly, folder: Path, *, token: bool = True, patience: float = 20.0) -> AsyncIterator[PeerDialer]:
    """Of m1. The puppet has one port only, which has to do for the private one."""
    (folder / "network.json").write_text(
        json.dumps({one.record.address: f"127.0.0.1:{one.record.port}" for one in fly.simulator.machines})
    )
    environ = {
        "FLYATC_NETWORK": str(folder / "network.json"),
        "FLY_FLAPS_BASE_URL": f"http://127.0.0.1:{fly.simulator.api_port}",
        "FLY_API_TOKEN": TOKEN,
    }
    m1 = fly["m1"].record
    me = Machine(m1.app, m1.id, m1.region, m1.address)
    api = MachinesApi(m1.app, environ, 1.0) if token else None
    found = PeerDialer(
        me, Dns(Listen("127.0.0.1", fly.simulator.dns_port)), api, 8790, patience, environ, replays=False
    )  # fmt: skip
    try:
        yield found
    finally:
        if api is not None:
            await api.close()


async def test_a_machine_is_found_or_woken_and_one_that_is_gone_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyatc.daemon.peers.WOKEN", 0.0)
    async with (
        small_fly(tmp_path / "fly") as fly,
        ways(fly, tmp_path) as found,
        ways(fly, tmp_path, token=False) as poor,
    ):
        m2 = Target("sim", id=fly.id("m2"))
        for to in (m2, m2, Target("sim", region="ams")):
            way = await found.reach(to, quick=False)
            assert way.idle(repeatable=False) is not None
            way.close()
        with pytest.raises(Unreachable, match="region iad: only this machine runs there"):
            await found.reach(Target("sim", region="iad"), quick=False)

        await fly["m2"].stop()
        with pytest.raises(Unreachable, match=r"it does not run .* fly secrets set FLY_API_TOKEN") as reported:
            await poor.reach(m2, quick=False)
        assert not reported.value.after
        (await found.reach(m2, quick=False)).close()
        assert fly["m2"].state == "started"

        await fly["m2"].stop()
        fly.simulator.api.fault = "503"
        with pytest.raises(Unreachable, match="cannot be woken") as reported:
            await found.reach(m2, quick=False)
        fly.simulator.api.fault = ""
        await fly.simulator.machines.destroy(fly["m2"])
        with pytest.raises(Unreachable, match=m2.id or ""):
            await found.reach(m2, quick=False)


async def test_a_machine_which_takes_no_connection_is_given_up_in_time(tmp_path: Path) -> None:
    async with small_fly(tmp_path / "fly") as fly, ways(fly, tmp_path, patience=0.5) as found:
        (tmp_path / "network.json").write_text("{}")
        with pytest.raises(
            Unreachable, match=r"not reached on the private network within 0.5 s: .* takes no"
        ) as reported:
            await found.reach(Target("sim", id=fly.id("m2")), quick=False)
        assert reported.value.after == 0.5
