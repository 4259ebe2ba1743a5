"""The apps of examples/, each with two tenants: from the first page to a migration of both.

Each app shows notes, and lets who has signed in add one with a file."""

import json
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from whole.browser import Browser, Page
from whole.daemon import Daemon, eventually
from whole.stacks import NEEDS, STACKS, Tenant, password, served
from whole.wrapped import wrapping

PICTURE = bytes(range(256)) * 300


def stays_inside(daemon: Daemon, page: Page, path: str) -> None:
    """The page came after redirects that did not leave the tenant."""
    assert (page.status, page.url) == (200, f"http://127.0.0.1:{daemon.port}{path}"), page.text


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.needs(what) for what in NEEDS[name]]) for name in STACKS]
)
def test_two_tenants_of_an_example_are_apart_and_their_data_returns(name: str, tmp_path: Path) -> None:
    stack = STACKS[name]
    with served(stack, tmp_path / name) as daemon:
        browser = Browser(f"http://127.0.0.1:{daemon.port}")
        first, second = Tenant(stack, stack.first, browser), Tenant(stack, stack.second, browser)
        logins_are_apart(daemon, first, second)
        forms_need_their_token(first)
        assets_are_below_the_prefix(first)
        files_are_uploaded(daemon, first)
        assert second.notes() == []
        moment = backup(daemon, first)
        first.add("later")
        assert daemon.stop() == 0
        shutil.rmtree(daemon.data)
        daemon.write(daemon.config.replace("idle: 1h", "idle: 1s"))
        browser.origin = f"http://127.0.0.1:{daemon.start().port}"
        everything_is_back(first, ["ann: hello", "ann: later"])
        assert stack.server_sessions or "You are ann" in first.home().text, "the tenant's secret is the same as before"
        daemon.until_reported("tenant draining", within=30, tenant=first.name, why="no request for 1 s")
        eventually(lambda: daemon.status(first.name)["state"] == "stopped", 30, "the idle stop")
        shutil.rmtree(daemon.data / "tenants")
        run = daemon.cli("restore", first.name, "--at", moment)
        assert run.returncode == 0, run.stderr
        a_migration_reaches_both(daemon, first, second)
        the_version_of_then_is_there(daemon, first)
        assert daemon.stop() == 0
        assert not daemon.reported("unexpected error")
        if stack.alone:
            it_runs_alone(daemon, first)


def logins_are_apart(daemon: Daemon, first: Tenant, second: Tenant) -> None:
    for tenant, user in ((first, "ann"), (second, "bob")):
        assert tenant.notes() == []
        if command := tenant.stack.create_user.format(user=user, password=password(user)):
            run = daemon.cli("exec", tenant.name, "--", "sh", "-c", command)
            assert run.returncode == 0, run.stderr
    stays_inside(daemon, first.sign_in("ann"), first.root)
    assert "You are ann" in first.home().text
    assert "You are" not in second.home().text, "a login at one is none at the other"
    stays_inside(daemon, second.sign_in("bob"), second.root)
    assert "You are ann" in first.home().text, "the other login has not ended this one"
    copied = "; ".join(f"{one.name}={one.value}" for one in first.browser.jar if one.path.startswith(f"/{first.name}"))
    assert "You are ann" in daemon.get(first.root, {"Cookie": copied}).text
    assert "You are" not in daemon.get(second.root, {"Cookie": copied}).text, "nor is a copied cookie valid there"


def forms_need_their_token(first: Tenant) -> None:
    page = first.page(first.stack.add)
    form = page.form(first.stack.file)
    tokens = [name for name in form.fields if "token" in name.lower()]
    assert tokens
    form.fields = {name: value for name, value in form.fields.items() if name not in tokens}
    assert first.browser.submit(page, form, {first.stack.text: "forged"}).status == first.stack.rejected
    assert first.notes() == []


def assets_are_below_the_prefix(first: Tenant) -> None:
    sheets = [sheet for page in first.stack.styled for sheet in first.browser.styles(first.page(page))]
    assert len(sheets) >= 2 * len(first.stack.styled), "a style sheet, and a picture that it shows"
    for sheet in sheets:
        assert sheet.status == 200, sheet.url
        assert sheet.path.startswith(first.root), sheet.url
        assert sheet.headers.get_content_type() in ("text/css", "image/svg+xml")


def files_are_uploaded(daemon: Daemon, first: Tenant) -> None:
    stays_inside(daemon, first.add("hello", "picture.bin", PICTURE), first.root)
    everything_is_back(first, ["ann: hello"])


def everything_is_back(first: Tenant, notes: list[str]) -> None:
    home = first.home()
    assert first.notes() == notes
    assert first.browser.follow(home, "picture.bin").body == PICTURE


def backup(daemon: Daemon, tenant: Tenant) -> str:
    """Save the tenant now, and return when the newest version of its database was saved."""
    assert daemon.cli("backup", tenant.name).returncode == 0
    versions = json.loads(daemon.cli("history", tenant.name, "--json").stdout)["versions"]
    return str(max(one["saved"] for one in versions if not one["database"].endswith("/")))


def a_migration_reaches_both(daemon: Daemon, *tenants: Tenant) -> None:
    """The app gets a migration as its developers write it, and all tenants are migrated by one command."""
    stack = tenants[0].stack
    for file, text in stack.migration.items():
        (daemon.folder / file).parent.mkdir(exist_ok=True)
        (daemon.folder / file).write_text(text)
    run = daemon.cli("exec", "--all", "--", *stack.migrate)
    assert run.returncode == 0, run.stdout + run.stderr
    for tenant in tenants:
        path = database_of(daemon, tenant)
        with closing(sqlite3.connect(path)) as database:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({stack.table})")]
        assert "pinned" in columns, path


def the_version_of_then_is_there(daemon: Daemon, tenant: Tenant) -> None:
    """Rows and uploads are those of the restored moment. Looks at the files: one start of the app less."""
    database = database_of(daemon, tenant)
    with closing(sqlite3.connect(database)) as opened:
        assert opened.execute(f"SELECT author, text FROM {tenant.stack.table}").fetchall() == [("ann", "hello")]
    assert PICTURE in [path.read_bytes() for path in database.parent.rglob("*") if path.is_file()]


def database_of(daemon: Daemon, tenant: Tenant) -> Path:
    (path,) = (daemon.data / "tenants").glob(f"{tenant.name.replace('/', '~').replace('~', '/', 1)}/*.sqlite3")
    return path


def it_runs_alone(daemon: Daemon, tenant: Tenant) -> None:
    """The app by flyatc run, in the place of thruster, on the database and the files that a tenant had."""
    database = database_of(daemon, tenant)
    env = tenant.stack.alone | {"DATABASE_URL": f"sqlite3:{database}", "UPLOADS": str(database.parent / "uploads")}
    with wrapping(daemon.folder, "bin/rails", "server", env=env) as one:
        alone = Tenant(tenant.stack, "", Browser(f"http://127.0.0.1:{one.start().port}"))
        eventually(lambda: alone.page().status == 200, 60, "the first page")
        everything_is_back(alone, ["ann: hello"])
        stays_inside(one, alone.sign_in("eve"), "/")
        assets_are_below_the_prefix(alone)
        one.signal(signal.SIGTERM)
        assert one.wait() == 128 + signal.SIGTERM
