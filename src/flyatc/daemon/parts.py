"""The parts of a daemon and how they are joined. Nothing else constructs a collaborator."""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from flyatc.config.schema import Config, Tenant
from flyatc.databases.vault import Vault
from flyatc.delivery.caching import Cache
from flyatc.edge import gateway, handler, recorder
from flyatc.edge.listener import Listener
from flyatc.edge.maintenance import Maintenance
from flyatc.objects.folder import FolderStore
from flyatc.observe.log import Log
from flyatc.process import child, command
from flyatc.process.ports import Ports
from flyatc.process.records import Records
from flyatc.tenants.fleet import Fleet
from flyatc.tenants.ports import Tools
from flyatc.wire import server


class Parts:
    """To be made in a running loop, by a daemon which holds the lock of the data folder."""

    def __init__(self, config: Config, log: Log, listener: Listener) -> None:
        self.log, self.listener = log, listener
        self.data = Path(config.server.data)
        self.environ = dict(os.environ)
        self.records = Records(self.data)
        self.store = (
            None if config.storage.mode == "none" else FolderStore(Path(config.storage.url.removeprefix("file:")))
        )
        self.vault = Vault(self.store, config.storage, log, self._expand)
        tools = Tools(restored=self.vault.hold, running=self._child(Ports()), gateway=_gateway)
        self.fleet = Fleet(config, tools, log)
        self.cache = Cache(config.cache.size, config.cache.item) if config.cache.size else None
        self.recorder = recorder.Recorder(log, lines=config.log.requests)
        self.maintenance = Maintenance(self.data / ".flyatc" / "maintenance.json", log)
        self.handler = handler.Handler(config, self.fleet, self.recorder, self.cache, self.maintenance)
        self.wire = server.Server(self.handler.handle, self.handler.refuse, config.limits)

    def _child(
        self, ports: Ports
    ) -> Callable[[Tenant, Callable[[], bool]], AbstractAsyncContextManager[child.RunningChild]]:
        return partial(child.hold, environ=self.environ, ports=ports, log=self.log, records=self.records)

    def _expand(self, text: str, tenant: Tenant) -> str:
        return command.expand(text, command.words(tenant, 0), self.environ)

    def close(self) -> None:
        self.vault.close()
        if self.store is not None:
            self.store.close()


def _gateway(tenant: Tenant, port: int) -> gateway.Gateway:
    return gateway.Gateway("127.0.0.1", port)
