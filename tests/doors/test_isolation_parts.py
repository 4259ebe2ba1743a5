"""The parts of the separation of apps: user ids on the disk, what other user ids can reach, limits, Landlock itself."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flyatc.control import refuse_apps
from flyatc.process.isolation import landlock, limits, machine, reach
from flyatc.process.isolation.user_ids import FILE, UserIds, own

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change owners")
with_landlock = pytest.mark.skipif(landlock.version() < 3, reason="this kernel has no Landlock")


# --- user ids ---


def test_a_tenant_keeps_its_id_and_no_other_gets_it(tmp_path: Path) -> None:
    ids = UserIds(tmp_path, 200_000)
    assert [ids.of("ann"), ids.of("bob/2025/winter"), ids.of("ann")] == [200_000, 200_001, 200_000]
    again = UserIds(tmp_path, 200_000)
    assert [again.of("new"), again.of("bob/2025/winter")] == [200_002, 200_001]
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert UserIds(tmp_path, 300_000).of("later") == 300_000


def test_a_record_cut_by_a_crash_gives_no_id_twice(tmp_path: Path) -> None:
    ids = UserIds(tmp_path, 200_000)
    for address in ("ann", "bob"):
        ids.of(address)
    os.truncate(tmp_path / FILE, (tmp_path / FILE).stat().st_size - 2)
    again = UserIds(tmp_path, 200_000)
    assert [again.of("bob"), again.of("carl")] == [200_001, 200_002]
    assert (tmp_path / FILE).read_text() == "200000 ann\n200001 bob\n200002 carl\n"


@as_root
def test_if_the_record_is_lost_the_owners_of_the_folders_are_not_given_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "tenants/ann/~"
    folder.mkdir(parents=True)
    os.chown(folder, 200_007, 200_007)
    assert UserIds(tmp_path, 200_000).of("bob") == 200_008


def test_no_id_is_beyond_what_programs_can_take(tmp_path: Path) -> None:
    ids = UserIds(tmp_path, 2**31 - 1)
    ids.of("last")
    with pytest.raises(ValueError, match="all user ids"):
        ids.of("one more")


@as_root
def test_a_folder_is_given_with_all_in_it_but_links_and_our_records(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    folder = data / "tenants/u/~"
    (folder / "deep/er").mkdir(parents=True)
    (folder / ".flyatc/orphans").mkdir(parents=True)
    outside.mkdir()
    for file in (folder / "deep/er/x", folder / "app.sqlite3", outside / "secret"):
        file.write_text("x")
    (folder / "link").symlink_to(outside)
    own(folder, 200_000, data, [folder / "app.sqlite3"])
    for path in (folder, folder / "deep", folder / "deep/er/x", folder / "app.sqlite3", folder / "link"):
        assert path.lstat().st_uid == 200_000, path
    for path in (outside, outside / "secret", folder / ".flyatc", folder / ".flyatc/orphans", data):
        assert path.stat().st_uid == 0, path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(data.stat().st_mode) & 0o011 == 0o011
    # a restore, as root, replaced a database and a folder of files meanwhile; and the app made a second name of a file
    (folder / "app.sqlite3").unlink()
    (folder / "app.sqlite3").write_text("restored")
    (folder / "storage/a").mkdir(parents=True)
    (folder / "storage/a/b").write_text("restored")
    os.link(outside / "secret", folder / "second-name")
    own(folder, 200_000, data, [folder / "app.sqlite3", folder / "storage", folder / "none"])
    assert {(folder / name).stat().st_uid for name in ("app.sqlite3", "storage", "storage/a/b")} == {200_000}
    assert (outside / "secret").stat().st_uid == 0


# --- what other user ids can reach ---


def test_what_is_closed_to_others_is_named(tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents[:-2]):
        if not above.stat().st_mode & 0o001:
            break
    else:
        pytest.skip("the folder for tests is open")
    assert f"{above}, above server.data, is closed" in reach.hindrance("/", ["sh"], "/bin", [], tmp_path / "data")
    assert reach.hindrance("/usr", ["sh"], "/bin", [], Path("/var/none/data")) == ""
    why = reach.hindrance(str(tmp_path), ["sh"], "/bin", [], Path("/var/data"))
    assert why.startswith("app.directory: ")
    assert "is closed to other user ids: chmod o+x" in why


def test_an_interpreter_that_is_closed_to_others_is_found_behind_links_and_scripts(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    interpreter = hidden / "ruby"
    interpreter.write_text("")
    interpreter.chmod(0o755)
    link, script, by_env = tmp_path / "link", tmp_path / "rails", tmp_path / "by_env"
    link.symlink_to(interpreter)
    script.write_text(f"#!{interpreter} -w\n")
    by_env.write_text("#!/usr/bin/env ruby\n")
    for program in (script, by_env):
        program.chmod(0o755)
    for program in (link, script, by_env):
        why = reach.hindrance("/", [str(program)], str(hidden), [], Path("/var/data"))
        assert "is closed to other user ids" in why, program


def test_a_folder_that_the_app_writes_must_be_open_to_all() -> None:
    why = reach.hindrance("/usr", ["sh"], "/bin", ["share", "none"], Path("/var/data"))
    assert why.startswith("/usr/share, see app.writable, may not be written by other user ids: chmod 1777 /usr/share")
    assert reach.hindrance("/var", ["sh"], "/bin", ["tmp"], Path("/var/data")) == ""


# --- limits; a real cgroup with these controllers is not everywhere: a folder stands for it ---


def test_limits_are_written_to_the_cgroup_of_the_run_if_it_has_the_controllers(tmp_path: Path) -> None:
    run = tmp_path / "ours/flyatc-1/run"
    run.mkdir(parents=True)
    for name in ("memory.max", "memory.oom.group", "cpu.max"):
        (run / name).write_text("")
    assert limits.limit(str(run), 512 << 20, 0.5, 0) == ([], "memory 512 MB, cpu 0.5")
    assert (run / "memory.max").read_text() == str(512 << 20)
    assert (run / "cpu.max").read_text() == "50000 100000"
    assert (run / "memory.oom.group").read_text() == "1"


def test_without_controllers_they_are_asked_for_and_then_limits_hold_for_each_process(tmp_path: Path) -> None:
    run = tmp_path / "ours/flyatc-1/run"
    run.mkdir(parents=True)
    words, said = limits.limit(str(run), 64 << 20, 0.5, 3)
    assert "memory 64 MB in each process" in said
    assert f"memory={64 << 20}" in words
    assert (run.parent / "cgroup.subtree_control").read_text() == "+cpu"
    assert limits.limit("", None, None, 0) == ([], "")
    if len(cores := os.sched_getaffinity(0)) > 1:
        assert [word for word in words if word.startswith("cores=") and int(word[6:]) in cores]


# --- Landlock ---

PROBE = """
import os, sys
sys.path.insert(0, {source!r})
from flyatc.process.isolation import confine
confine.confine([os.fsencode(word) for word in {words!r}])
def tries(path, mode):
    try:
        open(path, mode).close()
        return "yes"
    except OSError as error:
        return type(error).__name__
for path, mode in {paths!r}:
    print(tries(path, mode))
"""


def confined(words: list[str], paths: list[tuple[Path, str]]) -> list[str]:
    source = str(Path(landlock.__file__).parents[3])
    text = PROBE.format(source=source, words=words, paths=[(str(path), mode) for path, mode in paths])
    run = subprocess.run([sys.executable, "-I", "-S", "-c", text], capture_output=True, text=True, check=True)
    return run.stdout.split()


@with_landlock
def test_landlock_hides_a_folder_but_not_its_siblings_and_opens_what_lies_within(tmp_path: Path) -> None:
    for name in ("app/code", "app/data/ann/x", "app/data/bob/x", "app/tenants.yaml", "other/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    place = Path(os.path.realpath(tmp_path))
    words = [
        f"landlock={landlock.version()}",
        f"hide={place}/app/data",
        f"hide={place}/app/tenants.yaml",
        f"keep={place}/app",
        f"list={place}/app",
        f"write={place}/app/data/ann",
        f"write={place}",  # as /tmp is, with all of this in it
    ]
    expected = {
        ("app/code", "r"): "yes", ("app/code", "a"): "PermissionError", ("app/new", "w"): "PermissionError",
        ("app/data/ann/x", "r"): "yes", ("app/data/ann/new", "w"): "yes",
        ("app/data/bob/x", "r"): "PermissionError", ("app/data/bob/x", "a"): "PermissionError",
        ("app/tenants.yaml", "r"): "PermissionError", ("other/x", "a"): "yes", ("other/new", "w"): "yes",
    }  # fmt: skip
    found = confined(words, [(place / path, mode) for path, mode in expected])
    assert dict(zip(expected, found, strict=True)) == expected


def test_the_switch_turns_landlock_off_and_says_so() -> None:
    assert machine.examine({}).abi == landlock.version()
    off = machine.examine({"FLYATC_LANDLOCK": "off"})
    assert (off.abi, off.no_landlock) == (0, "FLYATC_LANDLOCK is off")


# --- the control socket ---


def test_descendants_of_the_daemon_and_ended_processes_are_not_operators() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert refuse_apps.descends(child.pid, {os.getpid()})
        assert not refuse_apps.descends(child.pid, {child.pid})
        assert not refuse_apps.descends(os.getpid(), {os.getpid()})
    finally:
        child.kill()
        child.wait()
    assert refuse_apps.descends(child.pid, ())
