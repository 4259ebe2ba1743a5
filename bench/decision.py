"""Times a replay decision from the cache, in a process of its own and without a connection; tells it as JSON.

decision.py CONFIG HEAD: tenants.yaml of a daemon of machines.py, whose DNS answers, and a file with the request's head.
``known_us``: where the user is served, looked up. ``sends_us``: all of it, from the question whether he is served
elsewhere to the header which Fly Proxy is to read, signed. What is left of a request is to read it, to send the answer
and to log it.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from types import SimpleNamespace

import uvloop

from flyatc.config.load import load
from flyatc.daemon.user_placement import UserPlacement
from flyatc.edge.fly_replay import FlyReplay
from flyatc.fly import environment
from flyatc.fly.dns_client import Dns
from flyatc.fly.user_lookup import UserLookup
from flyatc.observe.log import Log
from flyatc.routing.replay import Replays, secret
from flyatc.wire.head import RequestHead
from flyatc.wire.head_parser import RequestParser
from machines import ENVIRONMENT

COUNT, ROUNDS = 2_000, 20


class Nobody:
    """Owners: nobody is owned here, and no record is kept."""

    def held(self, user: str) -> bool:
        return False

    async def look(self, user: str) -> None:
        return None


@dataclass
class Answered:
    """A responder and an exchange: what is answered is taken, and goes nowhere."""

    head: RequestHead
    value: bytes = b""
    forwarded: object = None
    recording: object = None
    start: object = None
    wait: object = None
    config: object = field(default=None)

    def sent_on(self) -> None:
        pass

    def replay(self, to: object, opening: bytes, reason: str) -> None:
        self.value = opening


async def timed(path: Path, head: bytes) -> dict[str, float]:
    config = load(path, ENVIRONMENT)
    me = environment.this_machine(ENVIRONMENT)
    assert me is not None
    assert config.fly.metadata is not None
    names = UserLookup(Dns(config.fly.resolver), me, config.fly.metadata, Log(level="error"))
    placing = UserPlacement(config, me, Nobody(), names)
    replays = Replays(me, secret(ENVIRONMENT), config.replay.timeout)
    sign = FlyReplay(config, replays, placing, "nothing is handed over here")
    to = Answered(RequestParser().parse(head))
    tenant = SimpleNamespace(spec=config.tenants["far"])
    found = {"known_us": 1e9, "sends_us": 1e9}
    for _ in range(ROUNDS):  # the best of them: whatever else the machine does makes it longer only
        await placing.find("far")
        found["known_us"] = min(found["known_us"], _each(lambda: placing.known("far")))
        found["sends_us"] = min(found["sends_us"], _each(lambda: sign.respond_if_elsewhere(to, tenant, to)))
        await asyncio.sleep(0)
    if b"\r\nFly-Replay: instance=" not in to.value:
        raise RuntimeError(f"nothing was replayed: {to.value!r}")
    return found


def _each(what: Callable[[], object]) -> float:
    began = process_time()
    for _ in range(COUNT):
        what()
    return (process_time() - began) * 1e6 / COUNT


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(timed(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()))))
