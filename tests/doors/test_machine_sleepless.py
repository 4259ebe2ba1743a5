"""A machine that is to be stopped or suspended and cannot be: reported at the start and by ``flyatc check``."""

import socket
from pathlib import Path

import pytest

from flyatc.admin import doctor
from flyatc.cli.check import summary
from flyatc.config import load
from flyatc.config.schema import Config
from flyatc.fly import local_api

FLY = {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": "3d8dd15c1ed778", "FLY_REGION": "iad"}


def configured(folder: Path, then: str, *, mode: str = "snapshot", data: str = "data") -> Config:
    (folder / "tenants.yaml").write_text(
        f"app: {{command: [x]}}\nusers: {{ann: }}\nmachine_idle: {{then: {then}}}\n"
        f"storage: {{mode: {mode}}}\nserver: {{data: {data}}}"
    )
    return load.load(folder / "tenants.yaml", {})


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a machine, with the socket."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.bind("api")
    return FLY | {"FLYATC_FLY_API": "api"}


@pytest.mark.parametrize("then", ["none", "exit"])
def test_what_needs_no_platform_is_never_hindered(tmp_path: Path, then: str) -> None:
    assert local_api.reason(configured(tmp_path, then), {}) is None


@pytest.mark.parametrize("then", ["stop", "suspend"])
def test_elsewhere_than_on_fly_it_is_reported_and_nothing_is_done(tmp_path: Path, then: str) -> None:
    config = configured(tmp_path, then)
    reported = f"machine_idle.then: {then} needs Fly, and this is none of its machines: it stays awake"
    assert local_api.reason(config, {}) == reported
    assert reported in summary(config)
    assert "not a valid name on Fly" in str(local_api.reason(config, FLY | {"FLY_MACHINE_ID": "../x"}))


def test_on_fly_it_needs_the_socket(tmp_path: Path, api: dict[str, str]) -> None:
    config = configured(tmp_path, "suspend")
    assert local_api.reason(config, api) is None
    assert "cannot be used: No such file" in str(local_api.reason(config, FLY | {"FLYATC_FLY_API": "none"}))


def test_what_is_only_on_a_disk_that_goes_with_the_machine_keeps_it_awake(tmp_path: Path, api: dict[str, str]) -> None:
    rootfs, volume = (configured(tmp_path, "stop", mode="none", data=data) for data in ("/", "/proc"))
    assert "/ is not on a volume" in str(local_api.reason(rootfs, api))
    assert local_api.reason(volume, api) is None
    assert local_api.loses_disk(rootfs, FLY)
    assert not local_api.loses_disk(rootfs, {})


def test_the_doctor_knows_how_much_memory_fly_suspends(tmp_path: Path, api: dict[str, str]) -> None:
    def state(then: str, memory: str) -> list[str]:
        found = doctor.sleep(configured(tmp_path, then), api | {"FLY_VM_MEMORY_MB": memory})
        return [one.state for one in found]

    assert state("suspend", "2048") == state("stop", "8192") == ["good"]
    assert state("suspend", "4096") == ["doubt"]
    assert state("exit", "4096") == []
