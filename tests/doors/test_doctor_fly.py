"""The findings of ``flyatc doctor`` about the Machines API."""

from pathlib import Path

from fakes.fly import small_fly
from flyatc.admin import doctor
from flyatc.config import load
from flyatc.config.schema import Config
from flyatc.sim.machines import runtime_environment
from flyatc.sim.simulator import TOKEN
from flyatc.sim.types import Faults

FILE = "app: {{command: [x]}}\nusers: {{'*': {{match: '[0-9]+', provision: {provision}}}}}\nfly: {{metadata: user}}"


async def test_doctor_says_whether_the_api_accepts_us_and_why_no_user_gets_a_machine(tmp_path: Path) -> None:
    def config(provision: str) -> Config:
        (tmp_path / "tenants.yaml").write_text(FILE.format(provision=provision))
        return load.load(tmp_path / "tenants.yaml", {})

    async with small_fly(tmp_path / "fly", 1) as fly:
        bare = runtime_environment(fly["m1"].record)
        full = {**bare, "FLY_FLAPS_BASE_URL": f"http://127.0.0.1:{fly.simulator.api_port}", "FLY_API_TOKEN": TOKEN}
        reported = []
        for environ, provision in (({}, "true"), (bare, "false"), (bare, "true"), (full, "true")):
            found = await doctor.examine_fly(config(provision), environ)
            reported.append([(one.state, one.text) for one in found])
        assert reported[:2] == [[], []]
        assert reported[2][0][0] == "fault"
        assert "FLY_API_TOKEN is not set" in reported[2][0][1]
        assert reported[3] == [("good", "it lists 1 machine of sim, this among them")]
        (foreign,) = await doctor.examine_fly(config("true"), {**full, "FLY_MACHINE_ID": "148e21dad76789"})
        assert foreign.state == "doubt"
        fly.simulator.break_things(Faults(api="401"))
        (refused,) = await doctor.examine_fly(config("true"), full)
        assert "401" in refused.text
