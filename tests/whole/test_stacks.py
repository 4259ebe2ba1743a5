"""The apps of examples/, each with two tenants: from the first page to a migration of both.

Each app shows notes, and lets who has signed in add one with a file."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from whole.browser import Browser, Page
from whole.daemon import Daemon, clean_environment, eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # with Django's commands
PICTURE = bytes(range(256)) * 300
DJANGO_MIGRATION = """\
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("notes", "0001_initial")]
    operations = [migrations.AddField("note", "pinned", models.BooleanField(default=False))]
"""
LARAVEL_AUTOLOAD = """\
<?php  // as composer install writes it, for the packages of Debian
require_once 'Illuminate/autoload.php';
spl_autoload_register(function (string $class): void {
    if (str_starts_with($class, 'App\\\\')) {
        require __DIR__ . '/../app/' . str_replace('\\\\', '/', substr($class, 4)) . '.php';
    }
});
"""
LARAVEL_MIGRATION = """\
<?php
use Illuminate\\Database\\Migrations\\Migration;
use Illuminate\\Database\\Schema\\Blueprint;
use Illuminate\\Support\\Facades\\Schema;

return new class extends Migration
{
    public function up()
    {
        Schema::table('notes', fn (Blueprint $table) => $table->boolean('pinned')->default(false));
    }
};
"""
NODE_MIGRATION = """\
const Database = require("better-sqlite3");
new Database(process.env.DATABASE_PATH).exec("ALTER TABLE notes ADD pinned INTEGER");
"""
PHP_MIGRATION = """\
<?php
require __DIR__ . '/app.php';
database()->exec('ALTER TABLE notes ADD pinned INTEGER');
"""
RAILS_MIGRATION = """\
class PinNotes < ActiveRecord::Migration[6.1]
  def change = add_column(:notes, :pinned, :boolean)
end
"""


@dataclass
class Stack:
    """An example, and where its pages are. ``build``: commands that its README names before ``flyatc serve``."""

    example: str
    login: str
    first: str = "bellevue/2025/winter"
    second: str = "bellevue/2025/summer"
    user: str = "user"  # the input of the login's form
    password: str = ""  # and that for the password
    create_user: str = ""  # the command that creates a user, if clients cannot
    add: str = ""  # the page with the form of a new note
    styled: tuple[str, ...] = ("",)  # pages with style sheets
    installed: dict[str, str] = field(default_factory=dict)  # files that a package manager would write
    build: tuple[str, ...] = ()
    text: str = "text"  # the inputs of that form
    file: str = "file"
    rejected: int = 403  # a form without its token
    server_sessions: bool = False  # in files: they do not outlive the disk
    table: str = "notes"
    migration: dict[str, str] = field(default_factory=dict)  # files that add a column "pinned" to it
    migrate: tuple[str, ...] = ()  # the command that runs them


PRECOMPILE = "RAILS_RELATIVE_URL_ROOT=.. RAILS_ENV=production SECRET_KEY_BASE=1 bin/rails assets:precompile"
CREATE_USER = (
    "DJANGO_SUPERUSER_PASSWORD='{password}' python manage.py createsuperuser --noinput --username {user} --email ''"
)
STACKS = {
    "django": Stack(
        "django",
        "login",
        user="username",
        password="password",
        create_user=CREATE_USER,
        add="add",
        styled=("", "admin/login/"),
        build=("python manage.py collectstatic --noinput",),
        table="notes_note",
        migration={"notes/migrations/0002_pinned.py": DJANGO_MIGRATION},
        migrate=("python", "manage.py", "migrate"),
    ),
    "laravel": Stack(
        "laravel",
        "login",
        rejected=419,
        server_sessions=True,
        installed={"vendor/autoload.php": LARAVEL_AUTOLOAD},
        build=("php artisan package:discover",),
        migration={"database/migrations/2025_01_02_000000_pin_notes.php": LARAVEL_MIGRATION},
        migrate=("php", "artisan", "migrate", "--force"),
    ),
    "node": Stack(
        "node",
        "login",
        migration={"pin.js": NODE_MIGRATION},
        migrate=("node", "pin.js"),
    ),
    "php": Stack(
        "php",
        "login.php",
        server_sessions=True,
        migration={"pin.php": PHP_MIGRATION},
        migrate=("php", "pin.php"),
    ),
    "rails": Stack(
        "rails",
        "session/new",
        text="note[text]",
        file="note[file]",
        rejected=422,
        build=(PRECOMPILE,),
        migration={"db/migrate/20250102000000_pin_notes.rb": RAILS_MIGRATION},
        migrate=("bin/rails", "db:migrate"),
    ),
}
NEEDS = {
    "django": (),
    "laravel": ("php", "php-sqlite", "laravel"),
    "node": ("node", "examples/node"),
    "php": ("php", "php-sqlite"),
    "rails": ("puma", "rails", "ruby-sqlite"),
}


class Tenant:
    """One tenant, and a browser that visits it."""

    def __init__(self, stack: Stack, name: str, browser: Browser) -> None:
        self.stack, self.name, self.browser = stack, name, browser

    def page(self, path: str = "") -> Page:
        return self.browser.get(f"/{self.name}/{path}")

    def home(self) -> Page:
        found = self.page()
        assert found.status == 200, found.text
        return found

    def sign_in(self, user: str) -> Page:
        page = self.page(self.stack.login)
        values = {self.stack.user: user} | ({self.stack.password: password(user)} if self.stack.password else {})
        return self.browser.submit(page, page.form(self.stack.user), values)

    def add(self, text: str, name: str = "", content: bytes = b"") -> Page:
        page = self.page(self.stack.add)
        values, files = {self.stack.text: text}, {self.stack.file: (name, content)} if name else {}
        return self.browser.submit(page, page.form(self.stack.file), values, files)

    def notes(self) -> list[str]:
        """The notes of the home page, without their files."""
        found = re.findall(r"<li>\s*(\w+: [^<]*?)\s*<", self.home().text)
        return [str(note) for note in found]


def password(user: str) -> str:
    return f"correct horse {user}"


@contextmanager
def served(stack: Stack, folder: Path) -> Iterator[Daemon]:
    """Serve a copy of the example, built as its README says. Its tenants never become idle."""
    example = EXAMPLES / stack.example
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns("node_modules", "store", "data"))
    if (example / "node_modules").exists():
        (folder / "node_modules").symlink_to(example / "node_modules")
    for file, text in stack.installed.items():
        (folder / file).parent.mkdir()
        (folder / file).write_text(text)
    for command in stack.build:
        subprocess.run(
            ["sh", "-c", command], cwd=folder, env=clean_environment() | PATH, check=True, capture_output=True
        )
    written = (folder / "tenants.yaml").read_text()
    assert "server:\n" in written
    assert "\napp:" in written
    config = written.replace("server:\n", "server:\n  listen: 127.0.0.1:0\n", 1)
    config = re.sub(r"^(app:.*)$", r"\1\n  idle: 1h\n  start_timeout: 120s", config, count=1, flags=re.MULTILINE)
    daemon = Daemon(folder, config, PATH)
    try:
        yield daemon.start()
    finally:
        daemon.clean_up()
        print(daemon.log_file.read_text(errors="replace")[-20_000:])


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
        daemon.until_reported("tenant draining", within=30, tenant=first.name, why="no request for 1.0 s")
        eventually(lambda: daemon.status(first.name)["state"] == "stopped", 30, "the idle stop")
        shutil.rmtree(daemon.data / "tenants")
        run = daemon.cli("restore", first.name, "--at", moment)
        assert run.returncode == 0, run.stderr
        a_migration_reaches_both(daemon, first, second)
        everything_is_back(first, ["ann: hello"])
        assert daemon.stop() == 0
        assert not daemon.reported("unexpected error")


def logins_are_apart(daemon: Daemon, first: Tenant, second: Tenant) -> None:
    for tenant, user in ((first, "ann"), (second, "bob")):
        assert tenant.notes() == []
        if command := tenant.stack.create_user.format(user=user, password=password(user)):
            run = daemon.cli("exec", tenant.name, "--", "sh", "-c", command)
            assert run.returncode == 0, run.stderr
    stays_inside(daemon, first.sign_in("ann"), f"/{first.name}/")
    assert "You are ann" in first.home().text
    assert "You are" not in second.home().text, "a login at one is none at the other"
    stays_inside(daemon, second.sign_in("bob"), f"/{second.name}/")
    assert "You are ann" in first.home().text, "the other login has not ended this one"
    copied = "; ".join(f"{one.name}={one.value}" for one in first.browser.jar if one.path.startswith(f"/{first.name}"))
    assert "You are ann" in daemon.get(f"/{first.name}/", {"Cookie": copied}).text
    assert "You are" not in daemon.get(f"/{second.name}/", {"Cookie": copied}).text, (
        "nor is a copied cookie valid there"
    )


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
        assert sheet.path.startswith(f"/{first.name}/"), sheet.url
        assert sheet.headers.get_content_type() in ("text/css", "image/svg+xml")


def files_are_uploaded(daemon: Daemon, first: Tenant) -> None:
    stays_inside(daemon, first.add("hello", "picture.bin", PICTURE), f"/{first.name}/")
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
        (daemon.folder / file).write_text(text)
    run = daemon.cli("exec", "--all", "--", *stack.migrate)
    assert run.returncode == 0, run.stdout + run.stderr
    for tenant in tenants:
        (path,) = (daemon.data / "tenants").glob(f"{tenant.name.replace('/', '~').replace('~', '/', 1)}/*.sqlite3")
        with closing(sqlite3.connect(path)) as database:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({stack.table})")]
        assert "pinned" in columns, path
