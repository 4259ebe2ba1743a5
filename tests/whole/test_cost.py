"""flyatc cost: what a real daemon has counted of its users, also before a restart."""

import json
from pathlib import Path
from typing import Any

import pytest

from flyatc.cost.prices import MONTH
from whole.daemon import Daemon, config
from whole.visits import serving


def bill(daemon: Daemon, *arguments: str) -> dict[str, Any]:
    found = daemon.cli("cost", "--json", *arguments)
    assert found.returncode == 0, found.stderr
    return dict(json.loads(found.stdout))


def month_of(found: dict[str, Any], value: float) -> Any:
    """Extrapolate what was counted to a month."""
    return pytest.approx(value * MONTH / found["observed"])


def test_each_user_costs_what_it_has_used_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, config()) as daemon:
        for _ in range(3):
            assert daemon.get("/ann/one/echo").status == 200
        assert daemon.get("/ann/two/bytes?n=100000").status == 200
        assert daemon.get("/nonesuch/").status == 404
        daemon.cli("stop", "ann")
        first = bill(daemon)
        ann, bob, shared = first["users"]["ann"], first["users"]["bob"], first["shared"]
        assert ann["requests"] == month_of(first, 4)
        assert shared["requests"] == month_of(first, 1)
        assert bob["requests"] == bob["hours"] == bob["costs"]["machine"] == 0
        assert 0 < ann["hours"] <= 2 * 720
        assert 1e6 < ann["memory"] < 1e9
        assert ann["stored"] > 100  # it was saved
        assert ann["disk"] >= 2 * 4096
        assert ann["calls"] > 0
        assert ann["egress"] > month_of(first, 100_000).expected
        assert ann["costs"]["machine"] > 0
        assert ann["total"] == pytest.approx(sum(ann["costs"].values()))
        assert first["total"] == pytest.approx(ann["total"] + bob["total"] + shared["total"])
        assert first["rough"]

        daemon.stop()
        daemon.start()
        second = bill(daemon)
        assert second["since"] == first["since"]
        assert second["users"]["ann"]["requests"] == month_of(second, 4)
        assert second["users"]["ann"]["hours"] * second["observed"] == pytest.approx(ann["hours"] * first["observed"])

        table = daemon.cli("cost", "--machine", "performance-1x", "--region", "fra").stdout
        assert [line.split()[0] for line in table.splitlines()[:5]] == ["USER", "ann", "bob", "idle", "in"]
        assert "performance-1x with 2048 MB in fra" in table
        assert "a rough figure" in table


def test_prices_of_a_file_that_is_wrong_are_refused_before_the_daemon_is_asked(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config())
    daemon.write()
    (tmp_path / "prices.json").write_text('{"store": 1}')
    found = daemon.cli("cost", "--prices", "prices.json")
    assert found.returncode == 1
    assert "prices.json is no table of prices" in found.stderr
