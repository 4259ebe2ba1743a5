"""A small Fly with real daemons as machines and one bucket, for tests without a loop; each machine's way to the bucket
can be broken."""

import contextlib
import http.client
import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fakes.faults import Line
from fakes.s3 import Server
from fakes.simulator import Platform
from flyatc.sim.machine import Record
from flyatc.sim.machines import RECORDS
from flyatc.sim.simulator import Settings
from whole.daemon import SLOWNESS, Answer, clean_environment, eventually
from whole.log_file import LogFile, matching, when_written


class Cloud(Platform):
    """``config``: the text of each machine's tenants.yaml, in which {next} is the id of the machine after it;
    ``metadata``: machine's name → its metadata. Visitors come in at the first machine's region, iad."""

    def __init__(
        self, folder: Path, config: str, server: Server, metadata: Mapping[str, Mapping[str, str]], **settings: Any
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._server, self._bucket = folder, server, server.bucket()
        self._born(config, metadata, settings.get("regions", Settings(folder=folder).regions))
        self.lines = {name: Line(server.port) for name in metadata}
        self._logs: dict[str, LogFile] = {}
        super().__init__(Settings(folder=folder, **settings), self._command)

    def _born(self, config: str, metadata: Mapping[str, Mapping[str, str]], regions: Sequence[str]) -> None:
        """As if an earlier run had made the machines: so their ids are known before they start."""
        names, records = list(metadata), []
        ids = {name: secrets.token_hex(7) for name in names}
        for number, name in enumerate(names):
            (self.folder / name).mkdir()
            following = ids[names[(number + 1) % len(names)]]
            (self.folder / name / "tenants.yaml").write_text(config.replace("{next}", following))
            records.append(
                Record(
                    id=ids[name], name=name, app="sim", region=regions[number % len(regions)],
                    address=f"fdaa:0:51:a7b:{number + 1}::2", port=0, metadata=dict(metadata[name]),
                )
            )  # fmt: skip
        (self.folder / RECORDS).write_bytes(msgspec.json.encode(records))

    def _command(self, record: Record, folder: Path) -> list[str]:
        line = self.lines[record.name]
        store = [f"{name}={value}" for name, value in self._server.environ(self._bucket, port=line.port).items()]
        serve = [sys.executable, "-m", "flyatc", "serve", "--config", str(folder / "tenants.yaml")]
        return ["env", *store, *serve]

    def close(self) -> None:
        super().close()
        for line in self.lines.values():
            line.close()

    # --- visits ---

    def visit(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        at: str | None = None,
        timeout: float = 40,
        **headers: str,
    ) -> Answer:
        """Through the proxy; ``at``: the machine that is asked first. ``headers``: with ``_`` for ``-``."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if at is not None:
            given["fly-force-instance-id"] = self.id(at)
        return ask(self.simulator.port, method, path, body, given, timeout)

    def get(self, path: str, **more: Any) -> Answer:
        return self.visit("GET", path, **more)

    def add(self, path: str, **more: Any) -> int:
        """A row; how many there are."""
        answer = self.visit("POST", f"{path}/add", b"", **more)
        assert answer.status == 200, f"{path}: {answer.status}\n{answer.text}\n{self.hops[-3:]}"
        return int(answer.json["count"])

    def straight(self, name: str, method: str, path: str, **headers: str) -> Answer:
        """Past the proxy."""
        given = {header.replace("_", "-"): value for header, value in headers.items()}
        return ask(self[name].record.port, method, path, None, given, 40)

    # --- what they tell ---

    def reported(self, name: str, message: str, **fields: Any) -> list[dict[str, Any]]:
        """Lines of a machine's log, whose ``msg`` begins so."""
        log = self._logs.setdefault(name, LogFile(self[name].folder / "machine.log"))
        return when_written(lambda: matching(log.lines(), message, fields))

    def until_reported(self, name: str, message: str, within: float = 10, **fields: Any) -> dict[str, Any]:
        found = eventually(lambda: self.reported(name, message, **fields), within, f"{message!r} {fields} of {name}")
        return dict(found[0])

    def owner(self, user: str) -> str | None:
        """The name of the machine which the store says holds the lease now."""
        key = f"users/{user}/owner.json"
        try:
            record = json.loads(self._server.client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        except self._server.client.exceptions.NoSuchKey:
            return None
        names = {one.record.id: one.record.name for one in self.simulator.machines}
        return names.get(record["holder"]["machine"]) if record["state"] == "held" else None


def ask(
    port: int, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float = 40
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout * SLOWNESS)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.msg, answer.read())
    finally:
        connection.close()


@contextlib.contextmanager
def cloud(
    folder: Path, config: str, server: Server, metadata: Mapping[str, Mapping[str, str]], **settings: Any
) -> Iterator[Cloud]:
    """No machine's log may tell of an unexpected error at the end."""
    before = {name: os.environ.pop(name) for name in set(os.environ) - set(clean_environment())}
    one = Cloud(folder, config, server, metadata, **settings)
    try:
        one.open(metadata)
        assert not one.late(20 * SLOWNESS), "these do not listen"
        yield one
    finally:
        one.close()
        os.environ.update(before)
        for name in metadata:
            log = folder / name / "machine.log"
            print(f"--- {name} ---", log.read_text(errors="replace")[-15_000:], sep="\n")
        print(*one.hops[-100:], sep="\n")
    strange = [line for name in metadata for line in (folder / name / "machine.log").read_text().splitlines()
               if '"unexpected error"' in line or line.startswith("Traceback")]  # fmt: skip
    assert not strange, strange
