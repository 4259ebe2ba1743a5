"""What stays in memory of a daemon whose tenants start and stop again and again, with its log's memory full.

There are places for half of the tenants: each start stops another. The control API is not used, which takes memory of
its own."""

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import children
import load
import measure
import peers
from report import Goal, Table

TENANTS, PLACES = 12, 6
CONFIG = """
server: {{listen: "127.0.0.1:{port}", data: data}}
storage: {{url: "file:store", interval: 0s}}
app:
  isolation: "off"  # it writes into the bench's folder
  command: [{python}, -I, -S, {here}/cold_app.py]
  env: {{LISTENING: "{home}/{{user}}"}}
  databases: [app.sqlite3]
  seed: {home}/seed.sqlite3
  idle: 0s
limits: {{running: {places}}}
users:
{users}
"""


def memory(place: peers.Place, count: int) -> Table:
    """``count``: starts, each with its stop."""
    table = Table(f"Resident memory while {TENANTS} tenants start and stop", ["", "the daemon, MB", "with its helpers"])
    with _daemon(place) as (port, pid), ThreadPoolExecutor(PLACES) as pool:

        def look(name: str) -> float:
            children.pause(1.5)
            mine = measure.resident_octets([pid]) / 2**20
            table.rows.append([name, mine, measure.resident_octets(measure.family(pid)) / 2**20])
            return mine

        def again(number: int, times: int) -> None:
            for _ in range(times):
                for tenant in range(number, TENANTS, PLACES):
                    load.first_byte(port, f"/c{tenant}/", 120)

        look("at the start")
        done = 0
        for upto in (count // 12, count // 5, count // 2, count):
            rounds = (upto - done) // TENANTS
            list(pool.map(again, range(PLACES), [rounds] * PLACES))
            done += rounds * TENANTS
            look(f"after {_starts(place)} starts")
        load.press(f"http://127.0.0.1:{port}/nobody/", seconds=4, connections=64, cores=place.rest)
        reached = look("with its log's memory full")
    table.goals = [Goal("the daemon in the end", reached, 50, " MB")]
    return table


@contextlib.contextmanager
def _daemon(place: peers.Place) -> Iterator[tuple[int, int]]:
    home, port, everywhere = place.folder / "starts", children.free_port(), place.proxy | place.rest
    home.mkdir()
    _seed(home / "seed.sqlite3")
    users = "\n".join(f"  c{number}:" for number in range(TENANTS))
    text = CONFIG.format(port=port, python=sys.executable, here=peers.HERE, home=home, users=users, places=PLACES)
    (home / "tenants.yaml").write_text(text)
    with children.running(
        peers.flyatc_command(), port=port, cores=everywhere, output=home / "output.log", env=peers.flyatc_environment()
    ) as child:
        yield port, child.pid


def _starts(place: peers.Place) -> int:
    """The number so far, by the log."""
    return (place.folder / "starts" / "output.log").read_bytes().count(b'"msg":"tenant ready"')


def _seed(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE one (number INTEGER)")
        database.commit()
