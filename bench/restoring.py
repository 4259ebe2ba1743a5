"""One tenant's databases held once, in a process which has in memory what a daemon has: restoring.py TENANTS.YAML [KEY]

All parts of a daemon are made and the store's door is opened, as it does; what is left out is the self-test of the
store, which rclone fails, and the owners, who need what that is for. The last line of its output is the result.
``KEY``: an object of the store, to be fetched as well, alone.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import uvloop

import measure
from flyatc.config import load
from flyatc.daemon import daemon
from flyatc.daemon.wiring import Parts
from flyatc.databases.litestream.replica_layout import Addresses
from flyatc.edge.listener import Listener
from flyatc.kit.errors import SaveFailed
from flyatc.kit.types import silent
from flyatc.observe.log import Log
from flyatc.ownership.lease import SoleLease

LOOK = 0.05  # s; between two looks


async def hold(path: Path, key: str | None = None) -> dict[str, object]:
    config, log = load.load(path, os.environ), Log()
    parts = Parts(config, log, Listener(config.server.listen))
    assert parts.store is not None
    await parts.store.open()
    daemon.settle_memory()
    (tenant,) = config.tenants.values()
    measure.forget_peak(os.getpid())
    before, began = measure.peak_octets(os.getpid()), time.monotonic()
    # litestream may still be sending a large one anew when we leave; the line which was restored from is there
    forgiven = contextlib.suppress(SaveFailed) if config.storage.mode == "litestream" else contextlib.nullcontext()
    with Children() as children, forgiven:
        async with parts.databases.hold(tenant):
            seconds, grown = time.monotonic() - began, measure.peak_octets(os.getpid()) - before
    await parts.databases.still()
    transfer = time.monotonic()
    if key is not None:
        await parts.store.download(key, tenant.data / "alone", silent)
    transfer = time.monotonic() - transfer
    parts.close()
    log.close()
    line = Addresses(config.storage, os.environ).of_line(tenant, tenant.app.databases[0], SoleLease.line)
    return {"seconds": seconds, "grown": grown, "children": children.peak, "line": line, "transfer": transfer}


class Children:
    """``peak``: octets of the largest of them, looked at again and again."""

    def __enter__(self) -> "Children":
        self.peak = 0
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self._looking.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            children = measure.family(os.getpid())[1:]
            self.peak = max([self.peak, *map(measure.peak_octets, children)])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(hold(Path(sys.argv[1]), *sys.argv[2:]))), flush=True)
