"""Logins of a tenant's clients: before anything of it is sent or started, and never in another tenant's name."""

import base64
import concurrent.futures
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from passlib.hash import apr_md5_crypt, argon2, bcrypt

from whole import visits
from whole.daemon import Answer, Daemon, config, eventually

CHEAP, APR1 = bcrypt.using(rounds=4), apr_md5_crypt
ARGON2: Any = argon2
USERS = """users:
  ann: {}
  bob: {auth: null}
  carl: {strip_prefix: true, auth: {users: ["carl:%s", "dora:%s"], realm: Carl & Co}}
  eve: {auth: {users: other, public: [/echo]}}"""
APP = """  auth: {users: logins, public: [/assets, /headers, /webhooks/]}
  ready: "{prefix}/up"
  directory: .
  delivery: {static: [{path: /assets, folder: assets}, {path: /private, folder: assets}]}"""


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("auth")
    (folder / "assets").mkdir()
    (folder / "assets" / "a.css").write_text("body {}")
    (folder / "logins").write_text(f"# made by htpasswd\nann:{CHEAP.hash('right')}\nölaf:{APR1.hash('grün')}\n")
    (folder / "other").write_text(f"eve:{CHEAP.hash('apple')}\n")
    users = USERS % (ARGON2.using(memory_cost=1024, time_cost=1).hash("cat"), CHEAP.hash("x" * 72))
    hops = "  trusted_hops: 1"  # each test is a client of its own
    with visits.serving(folder, config(app=APP, users=users, server=hops)) as one:
        yield one


def ask(daemon: Daemon, path: str, login: dict[str, str] | None = None, client: str = "1.1.1.1", **more: str) -> Answer:
    headers = {"X-Forwarded-For": client, **(login or {}), **{k.replace("_", "-"): v for k, v in more.items()}}
    return daemon.get(path, headers)


def headers_seen(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer.body
    return {name.lower(): value for name, value in answer.json["headers"]}


def test_without_a_login_nothing_is_sent_and_no_app_is_started(daemon: Daemon) -> None:
    answer = ask(daemon, "/ann/echo", client="2.0.0.1")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Restricted", charset="UTF-8"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert ask(daemon, "/ann/private/a.css", client="2.0.0.1").status == 401, "a static file"
    assert ask(daemon, "/ann/nothing", Accept="text/html").text.startswith("<!doctype html>")
    assert ask(daemon, "/carl/").headers["WWW-Authenticate"] == 'Basic realm="Carl & Co", charset="UTF-8"'
    assert ask(daemon, "/ann/up").text == "asleep\n", "a health check needs no login"
    assert daemon.status("ann")["state"] == daemon.status("carl")["state"] == "stopped"


def test_the_app_gets_the_name_and_neither_the_password_nor_a_name_from_the_client(daemon: Daemon) -> None:
    forged = {"X-Remote-User": "root", "X_Remote_User": "root", "X-Remote_User": "root"}
    seen = headers_seen(ask(daemon, "/ann/echo", {**basic("ann", "right"), **forged}))
    assert seen["x-remote-user"] == "ann"
    assert "root" not in seen.values()
    assert "authorization" not in seen
    seen = headers_seen(ask(daemon, "/ann/echo", {**basic("ölaf", "grün"), **forged}))
    assert seen["x-remote-user"].encode("latin-1").decode() == "ölaf"
    seen = headers_seen(ask(daemon, "/carl/echo", {**basic("carl", "cat"), **forged}))
    assert seen["x-remote-user"] == "carl"
    seen = headers_seen(ask(daemon, "/bob/echo", {**basic("a", "b"), "X-Remote-User": "by a proxy in front"}))
    assert seen["x-remote-user"] == "by a proxy in front", "without auth it is no header of flyatc"
    assert seen["authorization"].startswith("Basic ")


def test_public_paths_need_no_login_and_the_app_gets_no_name(daemon: Daemon) -> None:
    assert ask(daemon, "/ann/assets/a.css").text == "body {}"
    assert ask(daemon, "/ann/headers?set=A:b").status == 200
    seen = headers_seen(ask(daemon, "/eve/echo", {"X-Remote-User": "root", **basic("of", "the app")}))
    assert "x-remote-user" not in seen
    assert seen["authorization"].startswith("Basic "), "there the app may ask for a login itself"


@pytest.mark.parametrize(
    "path",
    [
        *("/assetsx", "/assets/../echo", "/assets/%2e%2e/echo", "/assets//../echo", "/assets/..%2fecho", "/webhook"),
        *("/assets\\..\\echo", "/assets;/../echo", "/assets%2f", "//assets/a.css", "/./assets/a.css", "/Assets/a.css"),
    ],
)
def test_no_trick_with_a_path_makes_it_public(daemon: Daemon, path: str) -> None:
    assert visits.get(daemon, f"/ann{path}").status in (401, 400)


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-URL", "X_Original_URL", "x-rewrite-uri"])
def test_a_public_path_is_none_if_a_header_names_another(daemon: Daemon, name: str) -> None:
    assert ask(daemon, "/eve/echo", {name: "/secret"}).status == 401


@pytest.mark.parametrize(
    "value",
    ["", "Basic", "Basic !!!", "Basic YW5u", "Basic Og==", "Bearer YW5uOnJpZ2h0", "Basic YW5uOnJpZ2h0 x"]
    + ["Basic " + base64.b64encode(what).decode() for what in (b"ann:", b":right", b"ann:right\0", b"\xff\xfe:x")],
)
def test_no_other_header_is_a_login(daemon: Daemon, value: str) -> None:
    assert ask(daemon, "/ann/echo", {"Authorization": value}, client=f"2.0.1.{hash(value) % 250}").status == 401


def test_a_login_is_for_the_tenants_that_list_it_only(daemon: Daemon) -> None:
    for path, login in (("/carl/", ("ann", "right")), ("/ann/", ("carl", "cat")), ("/ann/", ("ölaf", "right"))):
        assert ask(daemon, path, basic(*login), client="2.0.2.1").status == 401
    assert ask(daemon, "/carl/echo", basic("dora", "x" * 72)).status == 200
    assert ask(daemon, "/carl/echo", basic("dora", "x" * 71), client="2.0.2.1").status == 401


def test_two_clients_with_different_names_never_share_a_cached_response(daemon: Daemon) -> None:
    page = "/ann/headers?set=Cache-Control:max-age=60"
    assert ask(daemon, page, basic("ann", "right")).headers["X-Cache"] != "hit"
    assert ask(daemon, page, basic("ölaf", "grün")).headers["X-Cache"] != "hit"


def test_after_ten_failures_a_client_waits_and_one_who_is_logged_in_or_elsewhere_does_not(daemon: Daemon) -> None:
    assert ask(daemon, "/ann/echo", basic("ann", "right"), client="2.0.3.1").status == 200
    statuses = [ask(daemon, "/ann/echo", basic("ann", f"wrong{i}"), client="2.0.3.1").status for i in range(10)]
    assert statuses == [401] * 10
    refused = ask(daemon, "/ann/echo", basic("ann", "wrong"), client="2.0.3.1")
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 6
    assert ask(daemon, "/ann/echo", basic("ölaf", "falsch"), client="2.0.3.1").status == 429
    assert ask(daemon, "/ann/echo", basic("ann", "right"), client="2.0.3.1").status == 200
    assert ask(daemon, "/ann/echo", basic("ann", "wrong"), client="2.0.3.2").status == 401


def test_a_thousand_wrong_passwords_do_not_delay_others(daemon: Daemon) -> None:
    def wrong(number: int) -> int:
        login = basic("ann", f"wrong{number}")
        return ask(daemon, "/ann/echo", login, client=f"3.{number >> 8}.{number & 255}.1").status

    assert ask(daemon, "/ann/echo", basic("ann", "right")).status == 200
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        attack = [pool.submit(wrong, number) for number in range(1000)]
        waits = []
        while not attack[-1].done():
            began = time.monotonic()
            assert ask(daemon, "/ann/echo", basic("ann", "right")).status == 200
            waits.append(time.monotonic() - began)
    statuses = {one.result() for one in attack}
    assert statuses <= {401, 503}
    assert 401 in statuses
    assert sorted(waits)[len(waits) // 2] < 0.5


def test_a_changed_file_is_used_at_once_and_a_faulty_or_missing_one_admits_no_login(daemon: Daemon) -> None:
    file = daemon.folder / "other"

    def status(password: str) -> Any:
        return ask(daemon, "/eve/", basic("eve", password), client=f"4.0.0.{os.urandom(1)[0]}").status

    before = file.read_text()
    assert status("apple") == 404
    file.write_text(f"eve:{CHEAP.hash('pear')}\n")
    eventually(lambda: status("apple") == 401, 10, "the new file is read")
    assert status("pear") == 404
    file.write_text("eve:pear\n")
    eventually(lambda: status("pear") == 503, 10, "the faulty file is read")
    file.write_text("#" * 2**20 + "\n")
    large = f"no login is possible: {file}: is larger than 1.0 MB"
    eventually(lambda: status("pear") == 503 and large in daemon.log_file.read_text(), 10, "the large file is read")
    assert "is not a file of at most 1 MB" in daemon.cli("reload").stderr
    file.unlink()
    assert status("apple") == 503
    assert daemon.cli("reload").returncode != 0, "the file of passwords is missing"
    file.write_text(before)
    eventually(lambda: status("apple") == 404, 10, "the file is there again")
    log = daemon.log_file.read_text()
    assert f"no login is possible: {file}: line 1: the password of 'eve' is not hashed by" in log
    for secret in ("apple", "pear", "right", "wrong1", "$2b$"):
        assert secret not in log


def test_a_reload_that_adds_auth_closes_the_tenant_for_those_whose_connection_is_open(daemon: Daemon) -> None:
    before = daemon.config_file.read_text()
    with visits.Line(daemon) as line:
        assert line.get("/bob/echo").status == 200
        daemon.write(before.replace("bob: {auth: null}", "bob: {}"))
        assert daemon.cli("reload").returncode == 0
        assert line.get("/bob/echo").status == 401
        daemon.write(before)
        assert daemon.cli("reload").returncode == 0
        assert line.get("/bob/echo").status == 200


def test_a_client_that_leaves_while_its_password_is_checked_is_logged_as_gone(tmp_path: Path) -> None:
    (tmp_path / "logins").write_text(f"ann:{bcrypt.using(rounds=12).hash('right')}\n")
    app = "  auth: {users: logins}"
    with visits.serving(tmp_path, visits.parrot(app=app)) as one:
        line = visits.Line(one).send(visits.request("/ann/", "Authorization: Basic YW5uOnJpZ2h0"))
        line.socket.close()
        one.until_reported("", status=499)
        assert visits.get(one, "/ann/", "Authorization: Basic YW5uOnJpZ2h0").status != 401
