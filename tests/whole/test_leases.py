"""Two machines with one store: exactly one serves a user, and the other names it."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually


@pytest.fixture
def pair(start: StartDaemon, tmp_path: Path) -> tuple[Daemon, Daemon]:
    url = f"url: 'file:{tmp_path / 'shared'}', session_ttl: 10s"
    text = config(idle="60s").replace("{interval: 0}", f"{{interval: 0, {url}}}")
    return start(text), start(text)


def added(daemon: Daemon) -> int | None:
    """None: it does not serve ann/one."""
    answer = daemon.post("/ann/one/add")
    return int(answer.json["count"]) if answer.status == 200 else None


def test_the_other_machine_names_the_holder_and_goes_on_after_an_orderly_end(pair: tuple[Daemon, Daemon]) -> None:
    home, away = pair
    assert added(home) == 1
    for path in ("/ann/one/count", "/ann/two/count"):  # an owner has all tenants of the user
        answer = away.get(path)
        assert answer.status == 503
        assert answer.headers["Flyatc-Owner"] == f"local/{evidence.machine(home)}"
        assert answer.headers["Retry-After"]
    assert away.get("/bob/count").status == 200, "another user is another matter"
    assert home.get("/bob/count").status == 503
    given = away.cli("release", "bob", "--to", evidence.machine(home))
    assert given.returncode == 0, given.stderr
    answer = away.get("/bob/count")
    assert (answer.status, answer.headers["Flyatc-Owner"]) == (503, f"local/{evidence.machine(home)}")
    eventually(lambda: home.get("/bob/count").status == 200, what="bob is served at home")  # which may believe for 2 s
    assert away.get("/bob/count").status == 503
    assert home.stop() == 0
    assert eventually(lambda: added(away), what="the other machine serves") == 2
    assert away.stop() == 0


def test_a_machine_that_was_killed_goes_on_at_once_with_what_it_had(pair: tuple[Daemon, Daemon]) -> None:
    home, away = pair
    assert [added(home), added(home)] == [1, 2]
    home.kill()
    assert added(away) is None, "it may live: its session is not old enough"
    home.start()
    assert added(home) == 3


def test_of_a_machine_which_has_gone_silent_the_user_is_taken_and_nothing_of_it_is_lost(
    pair: tuple[Daemon, Daemon], tmp_path: Path
) -> None:
    home, away = pair
    assert added(home) == 1
    home.cli("backup", "ann/one")
    assert added(home) == 2
    os.kill(home.pid, signal.SIGSTOP)
    evidence.grow_old(home, tmp_path / "shared")
    assert added(away) == 2, "from the last save"
    os.kill(home.pid, signal.SIGCONT)
    home.until_reported("this machine may not write any more: the app is killed", tenant="ann/one")
    aside = Path(home.until_reported("the local copy was set aside", tenant="ann/one")["path"])
    assert evidence.rows(aside / "app.sqlite3") == 2
    home.until_reported("the orphaned copy is in the store as well", tenant="ann/one")
    answer = home.get("/ann/one/count")
    assert answer.status == 503
    assert answer.headers["Flyatc-Owner"] == f"local/{evidence.machine(away)}"
    assert away.stop() == 0
    assert eventually(lambda: added(home), what="it serves again") == 3
    assert home.stop() == 0


def test_what_a_dead_machine_had_not_saved_is_set_aside_as_soon_as_it_is_back_though_it_owns_nothing(
    pair: tuple[Daemon, Daemon], tmp_path: Path
) -> None:
    home, away = pair
    assert added(home) == 1
    home.cli("backup", "ann/one")
    assert added(home) == 2
    home.kill()
    evidence.grow_old(home, tmp_path / "shared")
    assert added(away) == 2, "from the last save"
    home.start()
    aside = Path(home.until_reported("the local copy was set aside", tenant="ann/one")["path"])
    assert evidence.rows(aside / "app.sqlite3") == 2
    home.until_reported("the orphaned copy is in the store as well", tenant="ann/one")
    assert home.get("/ann/one/count").status == 503, "it is served elsewhere"
    assert not home.status("ann/one")["unsaved"]
    assert home.stop() == 0
    assert added(away) == 3
    assert away.stop() == 0


def is_404(daemon: Daemon, path: str) -> bool:
    answer = daemon.get(path)
    return answer.status == 404 and "Flyatc-Owner" not in answer.headers


def test_a_removed_user_is_404_on_every_machine_and_nothing_is_made_until_it_is_added_again(
    start: StartDaemon, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    text = config(idle="60s").replace("{interval: 0}", f"{{interval: 0, url: 'file:{shared}', session_ttl: 10s}}")
    home, *others = (start(text) for _ in range(3))
    assert added(home) == 1
    refused = others[0].cli("release", "ann", "--remove")
    assert refused.returncode == 1, "its holder lives, and is another machine"
    done = home.cli("release", "ann", "--remove")
    assert done.returncode == 0, done.stderr
    assert "removed" in done.stdout
    before = sorted((shared / "users" / "ann").rglob("*"))
    for daemon in (home, *others):
        for path in ("/ann/one/count", "/ann/two/count"):
            eventually(partial(is_404, daemon, path), what="what the machine believed for 2 s is forgotten")
        assert daemon.get("/bob/count").status in (200, 503), "another user is another matter"
    assert sorted((shared / "users" / "ann").rglob("*")) == before
    assert [path for one in others for path in (one.folder / "data").glob("tenants/ann/*")] == []
    [listed] = json.loads(others[1].cli("ownership", "ann", "--json").stdout)
    assert (listed["state"], "flyatc users add ann" in listed["note"]) == ("removed", True)
    assert others[1].cli("takeover", "ann", "--yes").returncode == 1
    assert others[1].cli("release", "ann", "--undo-remove").returncode == 0
    assert eventually(lambda: added(others[1]), what="the user is served again") == 2
