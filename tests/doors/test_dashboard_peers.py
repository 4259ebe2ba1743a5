"""The dashboard's look at other machines over a real socket: whatever answers, it is bounded in time and size."""

import asyncio
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout
from msgspec import structs

from fakes.operations import Desk
from flyatc.config import load
from flyatc.config.schema import Config
from flyatc.control.types import Daemon, MachineStatus, Overview
from flyatc.daemon.dashboard_site import KeptStatus
from flyatc.dashboard import machines, overview_page
from flyatc.dashboard.machines import Machines, Peers
from flyatc.dashboard.site import Site
from flyatc.fly.dns_client import Dns
from flyatc.fly.environment import Machine
from flyatc.objects.folder import FolderStore
from flyatc.objects.store import Stored, StoreUnavailable
from flyatc.observe.log import Log
from flyatc.routing import request_signature
from flyatc.routing.request_signature import ForwardedRequest, RequestSigner
from slowness import SLOWNESS

ME, OTHER = Machine("shop", "148e21dad76789", "iad"), Machine("shop", "3d8dd15c1ed778", "bos")
ADDRESS = "fdaa:0:1:a7b:2::2"
SECRET = b"of all machines"
DAEMON = Daemon(version="1", pid=1, started="2026-11-30T10:00:00Z", listen="*:3000", config="/f", running=1, limit=9)
OWN = MachineStatus(machine=ME.id, region="iad", daemon=DAEMON, users=["ann"])
STATUS = MachineStatus(machine=OTHER.id, region="bos", daemon=DAEMON, users=["bob"])


def response(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


@dataclass
class Far:
    """The other machine. ``says``: its answer; none: silence."""

    says: bytes = b""
    heard: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            if self.says:
                writer.write(self.says)
                await writer.drain()
            else:
                await reader.read()  # until the other side has enough of waiting
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "PEER_SECONDS", 0.3)
    monkeypatch.setattr(machines, "STORE_SECONDS", 0.3)


async def ask(says: bytes, folder: Path) -> tuple[MachineStatus | str, list[bytes]]:
    far = Far(says)
    async with await asyncio.start_server(far.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        network = folder / "network.json"
        network.write_text(json.dumps({ADDRESS: f"127.0.0.1:{port}"}))
        peers = Peers(ME, RequestSigner(ME, SECRET), 3001, Dns(None), None, {"FLYATC_NETWORK": str(network)})
        async with ClientSession(timeout=ClientTimeout(total=machines.PEER_SECONDS)) as session:
            found = await machines._status(session, peers, OTHER.id, ADDRESS)
    return found, far.heard


async def test_a_machine_is_asked_with_a_signature_that_only_it_accepts_and_only_for_this(tmp_path: Path) -> None:
    found, (heard,) = await ask(response(msgspec.json.encode(STATUS)), tmp_path)
    assert found == STATUS
    lines = heard.split(b"\r\n")
    assert lines[0] == b"GET /.flyatc/machine HTTP/1.1"
    (seal,) = [line.partition(b": ")[2] for line in lines if line.lower().startswith(b"flyatc-seal:")]
    path = request_signature.STATUS_PATH
    now = float(seal.split(b" t=")[1].split(b" ")[0])
    assert RequestSigner(OTHER, SECRET).open([seal], b"GET", path, now) == ForwardedRequest("-", 1, "")
    for one, method, target in ((ME, b"GET", path), (OTHER, b"POST", path), (OTHER, b"GET", b"/bob/")):
        assert not isinstance(RequestSigner(one, SECRET).open([seal], method, target, now), ForwardedRequest)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (response(b"", "403 Forbidden"), machines.REFUSED),
        (response(b"", "404 Not Found"), "its answer is 404"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "its answer is 302"),
        (response(b"{"), "its answer cannot be read"),
        (response(b"\xff"), "its answer cannot be read"),
        (response(b'{"machine": 1}'), "its answer cannot be read"),
        (response(msgspec.json.encode(structs.replace(STATUS, machine="x"))), "another machine has answered"),
        (response(b" " * (machines.LARGEST + 1)), "its answer is larger than 1 MB"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "Response payload is not completed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", ""),
        (b"SSH-2.0-x\r\n", ""),
    ],
)
async def test_whatever_a_machine_answers_it_is_a_status_or_a_reason(says: bytes, why: str, tmp_path: Path) -> None:
    found, _ = await ask(says, tmp_path)
    assert isinstance(found, str)
    assert found.startswith(why)
    assert found


@pytest.mark.usefixtures("quick")
async def test_a_machine_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with asyncio.timeout(5 * SLOWNESS):
        found, _ = await ask(b"", tmp_path)
    assert found == "it has not answered within 0.3 s"


# --- the store ---


class SlowStore(FolderStore):
    async def list(self, prefix: str) -> tuple[Stored, ...]:
        await asyncio.sleep(3600)
        return ()


class NoStore(FolderStore):
    async def list(self, prefix: str) -> tuple[Stored, ...]:
        raise StoreUnavailable("the store is away")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("kind", "note"), [(SlowStore, "no answer within 0.3 s"), (NoStore, "the store is away")])
async def test_without_its_records_the_machines_are_shown_with_a_note(
    kind: type[FolderStore], note: str, tmp_path: Path
) -> None:
    store = kind(tmp_path)
    try:
        looked = Machines(lambda: config(tmp_path), lambda: OWN, store, {}, None)
        found = await looked.look()
    finally:
        store.close()
    assert [one.machine for one in found.machines] == [ME.id]
    assert found.notes == [f"The records in the store are missing: {note}."]


def config(folder: Path) -> Config:
    file = folder / "tenants.yaml"
    file.write_text("app: {command: [x]}\nusers: {ann: , bob: }\n")
    return load.load(file, {})


async def test_why_the_others_cannot_be_asked_is_noted(tmp_path: Path) -> None:
    looked = Machines(lambda: config(tmp_path), lambda: OWN, None, {}, "the machines share no secret")
    assert (await looked.look()).notes == ["Other machines are not asked: the machines share no secret."]


async def test_all_of_it_is_looked_up_once_for_all_who_ask_at_once(tmp_path: Path) -> None:
    asked = []

    def own() -> MachineStatus:
        asked.append(1)
        return OWN

    looked = Machines(lambda: config(tmp_path), own, None, {}, None)
    found = await asyncio.gather(*(looked.look() for _ in range(20)))
    assert len(found) == 20
    assert len(asked) <= 22, "once for all, and this machine's own part for each"


async def test_a_page_that_is_open_looks_at_the_tenants_of_this_machine_once_a_second(tmp_path: Path) -> None:
    class Counting(Desk):
        looks = 0

        def status(self, *, seen: bool = False) -> Overview:
            assert seen, "not at each of thousands of tenants"
            self.looks += 1
            return super().status()

    desk, settings = Counting(), config(tmp_path)
    kept = KeptStatus(desk, lambda found: structs.replace(OWN, tenants=found.tenants))
    site = Site(desk, lambda: settings, Log(io.BytesIO()), environ={})
    site.overview, site.machines = kept.overview, Machines(lambda: settings, kept.of_machine, None, {}, None)
    facts = overview_page.Facts(site)
    for _ in range(3):  # as many browsers
        values = await facts.now(fresh=False)
    assert desk.looks == 1
    assert (values["users"], values["tenants"], values["running"]) == (3, 4, 1), "also those that were not asked for"
    await facts.now(fresh=True)
    assert desk.looks == 2
