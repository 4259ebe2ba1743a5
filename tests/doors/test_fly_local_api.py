"""A machine's requests to the platform about itself, to the simulator's socket and to worse ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fakes.fly import Fly, small_fly
from flyatc.fly import local_api
from flyatc.fly.environment import Machine
from flyatc.fly.local_api import LocalApi, NotAsked, Refused, Unanswered
from flyatc.sim.types import Faults

ME = Machine("sim", "3d8dd15c1ed778", "iad")


def api_of(fly: Fly, name: str, *, as_: str | None = None) -> LocalApi:
    one, other = fly[name], fly[as_ or name]
    path = Path(one.environ["FLYATC_FLY_API"])
    return LocalApi(path, Machine(other.record.app, other.record.id, other.record.region))


async def test_a_machine_stops_and_suspends_itself_and_no_other(tmp_path: Path) -> None:
    async with small_fly(tmp_path) as fly:
        await api_of(fly, "m1").ask("suspend")
        assert await fly["m1"].until("suspended", 10)
        await api_of(fly, "m2").ask("stop")
        assert await fly["m2"].until("stopped", 10)
        with pytest.raises(Refused, match="403 a machine may stop and suspend itself only"):
            await api_of(fly, "m1", as_="m2").ask("stop")
        await fly["m1"].start()
        fly["m1"].lost = True
        with pytest.raises(Refused, match="412 unable to suspend machine"):
            await api_of(fly, "m1").ask("suspend")
        fly.simulator.break_things(Faults(api="429"))
        with pytest.raises(Refused, match="429 the simulator is set to fail"):
            await api_of(fly, "m1").ask("stop")
        fly.simulator.break_things(Faults(api="away"))
        with pytest.raises(Unanswered):
            await api_of(fly, "m1").ask("stop")
        path = Path(fly["m1"].environ["FLYATC_FLY_API"])
    with pytest.raises(NotAsked, match="cannot connect to"):
        await LocalApi(path, ME).ask("stop")


@asynccontextmanager
async def answering(
    path: Path, answer: bytes, asked: Callable[[bytes], object] = lambda _: None
) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield


async def test_it_asks_as_fly_documents_it(tmp_path: Path) -> None:
    asked: list[bytes] = []
    async with answering(tmp_path / "api", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", asked.append):
        await LocalApi(tmp_path / "api", ME).ask("suspend")
    assert asked[0].startswith(b"POST /v1/apps/sim/machines/3d8dd15c1ed778/suspend HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99999]
)
async def test_an_invalid_response_leaves_it_open_whether_it_is_done(tmp_path: Path, answer: bytes) -> None:
    async with answering(tmp_path / "api", answer):
        with pytest.raises(Unanswered):
            await LocalApi(tmp_path / "api", ME).ask("suspend")


async def test_a_refusal_that_is_cut_off_is_one_as_well(tmp_path: Path) -> None:
    async with answering(tmp_path / "api", b"HTTP/1.1 500 Oops\r\nContent-Length: 9999\r\n\r\nno"):
        with pytest.raises(Refused, match=r"^500 no$"):
            await LocalApi(tmp_path / "api", ME).ask("stop")


def test_a_missing_local_api_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert local_api.missing_settings({"FLYATC_FLY_API": str(tmp_path / "none")}) == (
        f"{tmp_path / 'none'} cannot be used: No such file or directory"
    )
    assert local_api.missing_settings({"FLYATC_FLY_API": str(tmp_path / "file")}) == f"{tmp_path / 'file'} is no socket"
    assert local_api.socket_of({}) == Path("/.fly/api")
    assert Path("/.fly/api").exists() or local_api.missing_settings({}) is not None
