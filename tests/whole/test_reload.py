"""SIGHUP: the file is loaded again, or nothing changes."""

import signal

from whole import evidence
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually, restless

NAMES = ("kept", "removed", "changed")


def users(**envs: str) -> str:
    """Each keyword is a tenant of ann, with this in its environment as WORD."""
    tenants = ", ".join(f"{name}: {{env: {{WORD: {word}}}}}" for name, word in envs.items())
    return f"users: {{ann: {{tenants: {{{tenants}}}}}}}"


def pid(daemon: Daemon, name: str) -> int:
    return int(daemon.get(f"/ann/{name}/echo").json["pid"])


def word(daemon: Daemon, name: str) -> str:
    return str(daemon.get(f"/ann/{name}/echo?env=WORD").json["env"]["WORD"])


def reload(daemon: Daemon, text: str, reported: str = "reloaded") -> None:
    before = len(daemon.reported(reported))
    daemon.write(text)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: len(daemon.reported(reported)) > before, what=reported)


def test_a_bad_file_changes_nothing_and_all_its_faults_are_reported(start: StartDaemon) -> None:
    daemon = start(config(users=users(kept="a")))
    before = pid(daemon, "kept")
    for text, fault in [
        ("users: {ann: [", "tenants.yaml"),
        (config(users=users(kept="b"), app="  iddle: 5m"), "iddle"),
        (config(users="users: {'*': {match: '['}}"), "this '[' is not closed"),
        ("", "tenants.yaml"),
    ]:
        reload(daemon, text, "reload refused")
        assert any(fault in line["fault"] for line in daemon.reported("reload refused")), fault
    daemon.config_file.unlink()
    before_refusals = len(daemon.reported("reload refused"))
    daemon.signal(signal.SIGHUP)
    eventually(lambda: len(daemon.reported("reload refused")) > before_refusals, what="the refusal of no file")
    assert pid(daemon, "kept") == before
    assert word(daemon, "kept") == "a"
    assert daemon.stop() == 0


def test_removed_tenants_end_changed_ones_restart_added_ones_appear_and_the_rest_keep_their_pid(
    start: StartDaemon,
) -> None:
    daemon = start(config(users=users(kept="a", removed="a", changed="a")))
    before = {name: pid(daemon, name) for name in NAMES}
    assert daemon.post("/ann/removed/add").json["count"] == 1
    assert daemon.get("/ann/added/up").status == 404
    reload(daemon, config(users=users(kept="a", changed="b", added="a")))
    reported = daemon.reported("reloaded")[0]
    assert (reported["added"], reported["changed"], reported["removed"]) == (
        ["ann/added"],
        ["ann/changed"],
        ["ann/removed"],
    )
    assert daemon.get("/ann/removed/up").status == 404
    daemon.until_reported("tenant stopped", tenant="ann/removed")
    assert not evidence.alive(before["removed"])
    assert evidence.stored_rows(evidence.remote(daemon, "ann/removed")) == 1
    assert word(daemon, "added") == "a"
    daemon.until_reported("tenant draining", tenant="ann/changed", why="its configuration has changed")
    eventually(lambda: len(daemon.reported("tenant ready", tenant="ann/changed")) == 2, what="the restart")
    assert word(daemon, "changed") == "b"
    assert pid(daemon, "kept") == before["kept"]
    reload(daemon, config(users=users(kept="a", changed="b", removed="a")))
    assert daemon.get("/ann/removed/count").json["count"] == 1, "back, with its data"


def test_a_request_in_flight_outlives_the_removal_of_its_tenant(start: StartDaemon) -> None:
    daemon = start(config(users=users(kept="a", removed="a")))
    with daemon.connect() as raw:
        raw.sendall(b"GET /ann/removed/sse?n=8&pause=0.1 HTTP/1.1\r\nHost: x\r\n\r\n")
        got = raw.recv(65536)
        assert got.startswith(b"HTTP/1.1 200 ")
        reload(daemon, config(users=users(kept="a")))
        while not got.endswith(b"0\r\n\r\n"):
            more = raw.recv(65536)
            assert more, "cut"
            got += more
    assert got.count(b"data: event") == 8
    daemon.until_reported("tenant stopped", tenant="ann/removed")


def test_what_only_a_restart_can_change_is_reported_and_does_not_change(start: StartDaemon) -> None:
    daemon = start(config())
    assert daemon.post("/ann/one/add").json["count"] == 1
    reload(daemon, config(server="  data: ./elsewhere", top="log: {level: error}").replace(":0", ":1"))
    reported = daemon.until_reported("these settings need a restart")
    assert reported["settings"] == ["server.listen", "server.data", "log.level"]
    assert daemon.post("/ann/one/add").json["count"] == 2
    assert not (daemon.folder / "elsewhere").exists()


def test_reloads_amid_requests_fail_no_request(start: StartDaemon) -> None:
    from concurrent.futures import ThreadPoolExecutor

    texts = [config(users=users(kept="a", changed=value), flags=()) for value in "ab"]
    daemon = start(texts[0])
    first = pid(daemon, "kept")
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(lambda: [daemon.get(f"/ann/{NAMES[n % 2 * 2]}/up").status for n in range(150)])
        for turn in range(6):
            reload(daemon, texts[(turn + 1) % 2])
        assert set(answers.result()) == {200}
    assert pid(daemon, "kept") == first
    assert restless() in daemon.config
