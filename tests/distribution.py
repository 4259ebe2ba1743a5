"""Distribution of the tests to xdist's workers: what must stay together, and what begins first.

A file with a fixture of scope "module" stays together, in its order: its tests share daemons or machines, and some
continue what the ones before have done. So do the files of tests/pure and tests/story, which are short. All other tests
are distributed one by one. Most of them wait for what the daemon does by the clock, so no file may bound the end.
"""

from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

LANES = ("whole", "doors", "story", "pure")
LONG = (  # s, on two cores; of a file that stays together, or of its longest test
    "test_torture.py",  # 60
    "test_dashboard_chromium.py",
    "test_dist.py",
    "test_store_cut.py",
    "test_machine_sleep.py",
    "test_stacks.py",
    "test_cache_suite.py",
    "test_users.py",
    "test_many_machines.py",
    "test_files.py",
    "test_lease_end.py",
    "test_bucket_faults.py",
    "test_exec_all.py",
    "test_crawler.py",
    "test_healing.py",
    "test_data_deleted.py",
    "test_leases.py",
    "test_store_start.py",
    "test_tenant_stops.py",
    "test_servers_python_and_node.py",
    "test_dashboard_fly.py",
    "test_dashboard.py",
    "test_dashboard_tenant.py",
    "test_ownership_simulation.py",  # 10; the longest of tests/pure and tests/story, which otherwise would end last
    "test_hostile_heads.py",
    "test_delivery_cache_memory.py",
)


def order(item: pytest.Item) -> tuple[int, int]:
    """The longest first, and the shortest, those of tests/pure, last: then no core waits for another at the end."""
    name, lane = item.path.name, item.path.parent.name
    return LONG.index(name) if name in LONG else len(LONG), LANES.index(lane) if lane in LANES else 0


@cache
def together(path: Path) -> bool:
    return path.parent.name not in ("whole", "doors") or 'scope="module"' in path.read_text()


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """One unit of work: a file, or a test."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if together(self.config.rootpath / file) else nodeid
