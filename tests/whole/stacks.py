"""The apps of examples/ as the tests use them: where their pages are, how they are built, migrated and served."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fork_server
from slowness import SLOWNESS
from whole.browser import Browser, Page
from whole.daemon import Daemon, clean_environment

EXAMPLES = Path(__file__).parents[2] / "examples"
PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # with Django's commands
LEFT_OUT = shutil.ignore_patterns("node_modules", "generated", "staticfiles", "store", "data")
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
PIN = "ALTER TABLE notes ADD pinned INTEGER"
SEQUELIZE_MIGRATION = """\
module.exports = { up: (query, Sequelize) => query.addColumn("notes", "pinned", Sequelize.BOOLEAN) };
"""
TYPEORM_MIGRATION = f"""\
module.exports = class PinNotes1735776000000 {{ up(runner) {{ return runner.query("{PIN}"); }} }};
"""
PRISMA_DEPLOY = """\
// In the place of prisma migrate deploy, whose engine Prisma downloads from a host of its own.
const fs = require("node:fs");
const Database = require("libsql");
const db = new Database(process.env.DATABASE_URL.slice("file:".length));
db.exec("CREATE TABLE IF NOT EXISTS _prisma_migrations (migration_name TEXT PRIMARY KEY)");
for (const name of fs.readdirSync("prisma/migrations").filter((name) => /^\\d/.test(name)).sort()) {
  if (db.prepare("SELECT 1 FROM _prisma_migrations WHERE migration_name = ?").get(name)) continue;
  db.exec(fs.readFileSync(`prisma/migrations/${name}/migration.sql`, "utf8"));
  db.prepare("INSERT INTO _prisma_migrations VALUES (?)").run(name);
}
"""
NODE_MIGRATION = f"""\
const Database = require("better-sqlite3");
new Database(process.env.DATABASE_PATH).exec("{PIN}");
"""
PHP_MIGRATION = f"""\
<?php
require __DIR__ . '/app.php';
database()->exec('{PIN}');
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
    overlay: str = ""  # a folder of examples/ whose files come into the copy; flyatc init then writes its tenants.yaml
    modules: str = ""  # the folder of examples/ with the node_modules
    first: str = "bellevue/2025/winter"
    second: str = "bellevue/2025/summer"
    user: str = "user"  # the input of the login's form
    password: str = ""  # and that for the password
    create_user: str = ""  # the command that creates a user, if clients cannot
    add: str = ""  # the page with the form of a new note
    styled: tuple[str, ...] = ("",)  # pages with style sheets
    files: dict[str, str] = field(default_factory=dict)  # more files of the copy, as a package manager would write them
    replaced: dict[str, str] = field(default_factory=dict)  # in tenants.yaml
    build: tuple[str, ...] = ()
    text: str = "text"  # the inputs of that form
    file: str = "file"
    rejected: int = 403  # a form without its token
    server_sessions: bool = False  # in files: they do not outlive the disk
    table: str = "notes"
    migration: dict[str, str] = field(default_factory=dict)  # files that add a column "pinned" to it
    migrate: tuple[str, ...] = ()  # the command that runs them
    alone: dict[str, str] = field(default_factory=dict)  # its environment without tenants


PRECOMPILE = "RAILS_RELATIVE_URL_ROOT=.. RAILS_ENV=production SECRET_KEY_BASE=1 bin/rails assets:precompile"
CREATE_USER = (
    "DJANGO_SUPERUSER_PASSWORD='{password}' python manage.py createsuperuser --noinput --username {user} --email ''"
)


def orm(name: str, modules: str = "node-orms", **more: Any) -> Stack:
    """The Node example with the notes kept by an ORM."""
    return Stack("node", "login", overlay=f"node-orms/{name}", modules=modules, **more)


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
        files={"vendor/autoload.php": LARAVEL_AUTOLOAD},
        build=("php artisan package:discover",),
        migration={"database/migrations/2025_01_02_000000_pin_notes.php": LARAVEL_MIGRATION},
        migrate=("php", "artisan", "migrate", "--force"),
    ),
    "node": Stack(
        "node",
        "login",
        modules="node",
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
        alone={
            "RAILS_ENV": "production",
            "SECRET_KEY_BASE": "a" * 64,
            "RAILS_SERVE_STATIC_FILES": "1",
            "BINDING": "127.0.0.1",
        },
        migration={"db/migrate/20250102000000_pin_notes.rb": RAILS_MIGRATION},
        migrate=("bin/rails", "db:migrate"),
    ),
    "sequelize": orm(
        "sequelize",
        migration={"migrations/20250102000000-pin-notes.js": SEQUELIZE_MIGRATION},
        migrate=("npx", "sequelize-cli", "db:migrate"),
    ),
    "typeorm": orm(
        "typeorm",
        migration={"migrations/1735776000000-pin-notes.js": TYPEORM_MIGRATION},
        migrate=("npx", "typeorm", "migration:run", "-d", "data-source.js"),
    ),
    "prisma": orm(
        "prisma",
        modules="node-orms/prisma",
        files={"deploy.js": PRISMA_DEPLOY},
        build=("PRISMA_SCHEMA_ENGINE_BINARY=/bin/true npx prisma generate",),
        replaced={"[npx, prisma, migrate, deploy]": "[node, deploy.js]"},
        migration={"prisma/migrations/20250102000000_pin_notes/migration.sql": PIN},
        migrate=("node", "deploy.js"),
    ),
}
NEEDS = {
    "django": (),
    "laravel": ("php", "php-sqlite", "laravel"),
    "node": ("node", "examples/node/node_modules"),
    "php": ("php", "php-sqlite"),
    "prisma": ("node", "examples/node-orms/prisma/node_modules"),
    "rails": ("puma", "rails", "ruby-sqlite"),
    "sequelize": ("node", "examples/node-orms/node_modules/sqlite3/build"),  # compiled
    "typeorm": ("node", "examples/node-orms/node_modules"),
}


class Tenant:
    """One tenant, and a browser that visits it."""

    def __init__(self, stack: Stack, name: str, browser: Browser) -> None:
        self.stack, self.name, self.browser = stack, name, browser
        self.root = f"/{name}/" if name else "/"  # without a name: an app alone

    def page(self, path: str = "") -> Page:
        return self.browser.get(f"{self.root}{path}")

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
    shutil.copytree(example, folder, ignore=LEFT_OUT)
    if stack.modules:
        (folder / "node_modules").symlink_to(EXAMPLES / stack.modules / "node_modules")
    if stack.overlay:
        shutil.copytree(EXAMPLES / stack.overlay, folder, ignore=LEFT_OUT, dirs_exist_ok=True)
        (folder / "tenants.yaml").unlink()
        fork_server.run(["init"], folder, clean_environment() | PATH, 60 * SLOWNESS).check_returncode()
    for file, text in stack.files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    for command in stack.build:
        subprocess.run(
            ["sh", "-c", command], cwd=folder, env=clean_environment() | PATH, check=True, capture_output=True
        )
    written = (folder / "tenants.yaml").read_text()
    for old, new in stack.replaced.items():
        assert old in written
        written = written.replace(old, new)
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
