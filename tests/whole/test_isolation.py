"""Tenants are kept apart: an app that tries to reach its neighbour, the store, the daemon and its secrets. As root with
user ids and Landlock, as another user with Landlock alone, and with neither."""

import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.streams import litestream_of
from flyatc.process.isolation import landlock
from whole import confined
from whole.daemon import Daemon, config, eventually

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed: apt install util-linux"),
    pytest.mark.skipif(landlock.version() < 6, reason="this kernel has no Landlock with scopes"),
]
NOTHING = {"FLYATC_LANDLOCK": "off"}
FORBIDDEN = (
    "read the neighbour's database",
    "write the neighbour's database",
    "read it through /proc",
    "list the tenants",
    "read the store",
    "read tenants.yaml",
    "ask the control socket",
    "read the daemon's memory",
    "read the neighbour's memory",
    "trace the neighbour",
    "signal the neighbour",
    "signal the daemon",
    "signal the root of its run",
    "write the app's folder",
    "change the app",
    "read a disk",
    "kill the neighbour",
)
ITS_OWN_DIRECTORY = {"write the app's folder", "change the app", "read tenants.yaml"}  # which lies there
ALLOWED = ("write log", "write its data", "write its temporary folder", "write /tmp", "open /dev/stdout")
Begin = Callable[..., Daemon]


@pytest.fixture
def folder() -> Iterator[Path]:
    with confined.place() as made:
        yield made


@pytest.fixture
def begin(folder: Path) -> Iterator[Begin]:
    begun: list[Daemon] = []

    def one(user: int = 0, env: dict[str, str] | None = None, settings: str = "", server: str = "") -> Daemon:
        daemon = confined.prepare(folder, user, settings, server)
        begun.append(daemon)
        return confined.start(daemon, folder, user, env)

    yield one
    for daemon in begun:
        daemon.clean_up()
        print(daemon.log_file.read_text()[-20_000:] if daemon.log_file.exists() else "no log")


def spy(daemon: Daemon, **more: Any) -> dict[str, Any]:
    """Both run; what the app of ann could do to bob's, and to all else."""
    own, neighbour = daemon.get("/ann/").json, daemon.get("/bob/").json
    assert own["pid"] != neighbour["pid"]
    assert daemon.cli("backup", "bob").returncode == 0  # so that there is something in the store
    at = {
        "neighbour_pid": neighbour["pid"],
        "neighbour": str(daemon.data / "tenants/bob/~/app.sqlite3"),
        "tenants": str(daemon.data / "tenants"),
        "store": str(daemon.data.parent / "store"),
        "config": str(daemon.config_file),
        "socket": str(daemon.data / ".flyatc/control.sock"),
        "daemon_pid": daemon.pid,
        "canary": confined.CANARY,
        "disks": [str(disk) for disk in (Path("/dev/vda"), Path("/dev/sda"), Path("/dev/mem")) if disk.exists()],
        **more,
    }
    found: dict[str, Any] = daemon.post("/ann/spy", json.dumps(at).encode()).json
    if more.get("kill") and found["kill the neighbour"] != "yes":
        assert daemon.get("/bob/").json["pid"] == neighbour["pid"]
    return found


def could(found: dict[str, Any]) -> set[str]:
    return {what for what in FORBIDDEN if found.get(what) == "yes"}


def is_its_own(found: dict[str, Any]) -> None:
    """It gets on with its work, and has nothing of the daemon's."""
    assert {what: found[what] for what in ALLOWED} == dict.fromkeys(ALLOWED, "yes")
    assert found["environments with the secret"] == []
    assert found["environment"]["XDG_RUNTIME_DIR"] == found["temporary"], "gunicorn has a socket there"
    ours = {name for name in found["environment"] if name.startswith(("AWS_", "FLYATC_"))}
    assert ours == {"FLYATC_RUN", "FLYATC_FOLDER", "FLYATC_TENANT", "FLYATC_USER"}, (
        "which identify it, and open nothing"
    )
    assert found["no new privileges"] is True
    known = ("socket:", "/var/tmp/flyatc-", "/proc/")  # its connections, its database, the list itself
    assert [one for one in found["open descriptors"] if not one.startswith(known)] == []


def test_as_root_each_tenant_has_a_user_id_and_reaches_nothing_of_the_others(begin: Begin) -> None:
    daemon = begin(settings="  isolation: strict")
    found = spy(daemon, kill=True)
    assert could(found) == set()
    assert found["chmod the neighbour's database"].startswith("no")
    assert (found["uid"], found["groups"]) == (200_000, [])
    assert found["write /tmp"].startswith("no"), "strict closes it"
    is_its_own({**found, "write /tmp": "yes"})
    assert daemon.status("ann")["isolation"] == f"user 200000, Landlock {landlock.version()}"
    assert daemon.cli("status").stderr == ""
    assert "never separated: the ports of other apps on 127.0.0.1" in daemon.cli("doctor").stdout


def test_user_ids_alone_keep_the_tenants_apart_but_not_what_all_may_read(begin: Begin) -> None:
    daemon = begin(env=NOTHING, settings="  isolation: user")
    found = spy(daemon, kill=True)
    assert could(found) == {"read tenants.yaml"}
    is_its_own(found)
    assert "not separated: an app can read what every user of this machine may read" in daemon.cli("status").stderr
    daemon.config_file.chmod(0o600)
    assert could(spy(daemon)) == set()


def test_unprivileged_landlock_alone_keeps_the_tenants_apart(begin: Begin) -> None:
    daemon = begin(user=confined.UNPRIVILEGED, settings="  isolation: landlock")
    found = spy(daemon, kill=True)
    assert could(found) == set()
    assert found["uid"] == confined.UNPRIVILEGED
    assert found["chmod the neighbour's database"] == "yes"  # Landlock does not cover it: so it is said
    is_its_own(found)
    said = daemon.cli("status").stderr
    assert "not separated: an app can find out names, sizes and times of other tenants' files" in said
    assert "flyatc does not run as root" in said
    assert daemon.status("ann")["isolation"] == f"Landlock {landlock.version()}"


def test_auto_leaves_an_app_its_own_directory_and_says_so(begin: Begin, folder: Path) -> None:
    daemon = begin(user=confined.UNPRIVILEGED)
    os.chown(folder / "app", confined.UNPRIVILEGED, confined.UNPRIVILEGED)
    assert could(spy(daemon)) == ITS_OWN_DIRECTORY
    assert daemon.post("/ann/", b"echo line >>app.log && mv app.log old.log").json["code"] == 0
    assert "not separated: an app can change its own directory" in daemon.cli("status").stderr
    assert "not separated: an app can change its own directory" in daemon.cli("doctor").stdout


def test_landlock_alone_holds_for_apps_that_run_as_root(begin: Begin) -> None:
    daemon = begin(settings="  isolation: landlock")
    found = spy(daemon, kill=True)
    assert could(found) == set()
    assert found["uid"] == 0
    is_its_own(found)
    raw = "mount -t tmpfs none /mnt || mknod $TMPDIR/disk b 254 0 || echo x > /proc/sys/kernel/core_pattern"
    assert daemon.post("/ann/", f"({raw}) 2>/dev/null".encode()).json["code"] != 0


def test_with_neither_nothing_is_separated_and_everything_says_so(begin: Begin) -> None:
    daemon = begin(user=confined.UNPRIVILEGED, env=NOTHING)
    found = spy(daemon)
    held = {"ask the control socket", "read the daemon's memory", "read a disk", "kill the neighbour"}
    assert {what for what in FORBIDDEN if found.get(what, "no") != "yes"} == held
    assert found["environments with the secret"] == []
    sentence = "an app can read and change the data of every tenant"
    assert f"not separated: {sentence}" in daemon.cli("status").stderr
    assert any(sentence in one for one in daemon.reported("the apps are not fully separated")[0]["lacking"])
    doctor = daemon.cli("doctor").stdout
    assert sentence in doctor
    assert "tenants have none of their own: flyatc does not run as root" in doctor
    assert "it is not used: FLYATC_LANDLOCK is off" in doctor


def test_what_is_asked_for_and_cannot_be_had_refuses_the_start(begin: Begin, folder: Path) -> None:
    daemon = begin(user=confined.UNPRIVILEGED, env=NOTHING, settings="  isolation: user")
    answer = daemon.get("/ann/")
    assert answer.status == 502
    assert "cannot have a user id of its own: flyatc does not run as root" in daemon.status("ann")["reason"]
    daemon.write(daemon.config.replace("isolation: user", "isolation: landlock"))
    assert daemon.cli("reload").returncode == 0
    eventually(lambda: "there is no Landlock: FLYATC_LANDLOCK is off" in _reason(daemon), 30)


def _reason(daemon: Daemon) -> str:
    daemon.get("/ann/")
    return str(daemon.status("ann")["reason"])


def test_auto_uses_no_user_id_where_the_app_could_not_be_reached_and_says_what_to_do(
    begin: Begin, folder: Path
) -> None:
    daemon = begin()
    (folder / "app/log").chmod(0o755)
    found = spy(daemon)
    assert (found["uid"], could(found)) == (0, ITS_OWN_DIRECTORY)
    warning = daemon.reported("no user id of its own")[0]
    assert f"chmod 1777 {folder}/app/log" in warning["reason"]
    assert len(daemon.reported("no user id of its own")) == 1
    assert f"chmod 1777 {folder}/app/log" in daemon.cli("doctor").stdout


def test_a_command_has_no_user_id_where_the_app_has_none(begin: Begin, folder: Path) -> None:
    daemon = confined.prepare(folder, 0)
    closed = folder / "app/run"
    closed.write_text(f"#!/bin/sh\nexec {confined.python(folder)} -I spy.py\n")
    closed.chmod(0o700)
    daemon.config = daemon.config.replace(f'"{confined.python(folder)}", -I, spy.py', "./run")
    try:
        confined.start(daemon, folder, 0)
        assert daemon.get("/ann/").json["uid"] == 0
        run = daemon.cli("exec", "ann", "--", "sh", "-c", "id -u && test -w $DATA/app.sqlite3 && echo written")
        assert (run.stdout, run.returncode) == ("0\nwritten\n", 0), run.stderr
        assert daemon.cli("exec", "bob", "--", "id", "-u").stdout == "200000\n", "its app has not run"
    finally:
        daemon.clean_up()


def test_the_data_is_saved_and_restored_for_its_user_id_and_keeps_it(begin: Begin, folder: Path) -> None:
    daemon = begin(settings="  isolation: user")
    assert daemon.get("/bob/").json["uid"] == 200_000
    assert daemon.get("/ann/").json["uid"] == 200_001
    assert daemon.post("/ann/", b"touch $TMPDIR/x && ln -s / $DATA/link && mkdir $DATA/sub").json["code"] == 0
    assert daemon.cli("stop", "ann").returncode == 0
    eventually(lambda: daemon.status("ann")["state"] == "stopped")
    assert not (daemon.data / "tmp/ann~~").exists()
    assert daemon.stop() == 0
    shutil.rmtree(daemon.data / "tenants/ann")
    daemon.start()
    assert daemon.get("/ann/").json["uid"] == 200_001
    own = daemon.data / "tenants/ann/~"
    assert (own.stat().st_uid, stat.S_IMODE(own.stat().st_mode)) == (200_001, 0o700)
    with sqlite3.connect(own / "app.sqlite3") as database:  # as root: the files beside it get the owner of it
        assert database.execute("select count(*) from visits").fetchone() == (2,)
        database.execute("insert into visits values ('by root')")
    database.close()
    assert {path.stat().st_uid for path in own.glob("app.sqlite3*")} == {200_001}
    assert (Path("/").stat().st_uid, daemon.post("/ann/", b"touch $DATA/app.sqlite3-wal").json["code"]) == (0, 0)


def test_an_app_that_is_refused_something_learns_what_to_set(begin: Begin, folder: Path) -> None:
    daemon = begin(user=confined.UNPRIVILEGED, settings="  isolation: landlock")
    for _ in range(2):
        assert daemon.post("/ann/", b"touch cache.txt").json["code"] != 0
    warning = daemon.until_reported("the app was refused something", tenant="ann")
    assert "cache.txt" in warning["line"]
    assert "name the folders there, or set app.isolation" in warning["advice"]
    assert len(daemon.reported("the app was refused something")) == 1, "once for each run"
    (folder / "app/cache").mkdir()
    os.chown(folder / "app/cache", confined.UNPRIVILEGED, confined.UNPRIVILEGED)
    daemon.write(daemon.config.replace("directory: .", "directory: .\n  writable: [cache]"))
    assert daemon.cli("reload").returncode == 0
    assert daemon.cli("restart", "ann").returncode == 0
    assert daemon.post("/ann/", b"touch cache/x.txt").json["code"] == 0
    assert daemon.post("/ann/", b"touch log/x.txt").json["code"] != 0


def test_what_runs_before_the_app_is_confined_as_the_app_is(begin: Begin, folder: Path) -> None:
    begun = "  before_start: [sh, -c, 'id -u >$DATA/id; ! touch refused']"
    daemon = begin(settings=f"  isolation: user\n{begun}")
    assert daemon.get("/ann/").json["uid"] == 200_000
    assert (daemon.data / "tenants/ann/~/id").read_text() == "200000\n"
    assert not (folder / "app/refused").exists()


def test_a_database_that_is_a_link_to_another_tenants_is_not_saved(begin: Begin) -> None:
    daemon = begin(user=confined.UNPRIVILEGED)
    spy(daemon)
    swap = f"cd $DATA && rm -f app.sqlite3* && ln -s {daemon.data}/tenants/bob/~/app.sqlite3 app.sqlite3"
    assert daemon.post("/ann/", swap.encode()).json["code"] == 0
    run = daemon.cli("backup", "ann")
    assert run.returncode != 0
    assert "it is a link" in run.stderr + run.stdout
    assert daemon.post("/ann/", b"rm $DATA/app.sqlite3").json["code"] == 0


def test_memory_is_limited_for_each_process_where_there_are_no_cgroups(begin: Begin) -> None:
    daemon = begin(env={"FLYATC_CGROUPS": "off"}, settings="  memory: 300MB\n  cpu: 1")
    grow = f"'{confined.python(daemon.folder.parent)}' -c 'bytearray({{}} << 20)' 2>/dev/null"
    assert daemon.post("/ann/", grow.format(100).encode()).json["code"] == 0
    assert daemon.post("/ann/", grow.format(400).encode()).json["code"] == 1
    assert "memory 300 MB in each process, cpu 1 cores" in daemon.status("ann")["isolation"]
    cores = f"'{confined.python(daemon.folder.parent)}' -c 'import os; raise SystemExit(len(os.sched_getaffinity(0)))'"
    assert daemon.post("/ann/", cores.encode()).json["code"] == 1


def test_litestream_has_mounts_in_which_no_link_of_an_app_is_followed(tmp_path: Path) -> None:
    """On a new machine, too, where no tenant has a folder when litestream starts."""
    daemon = Daemon(tmp_path, config().replace("storage: {interval: 0}", "storage: {mode: litestream}")).start()
    try:
        assert daemon.get("/ann/one/up").status == 200
        mounts = Path(f"/proc/{litestream_of(daemon.data)}/mountinfo").read_text().splitlines()
        assert [line for line in mounts if f" {daemon.data}/tenants " in line and "nosymfollow" in line]
        assert "nosymfollow" not in Path(f"/proc/{daemon.pid}/mountinfo").read_text()
    finally:
        assert daemon.stop() == 0
