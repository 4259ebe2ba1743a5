"""Plans of flyatc init for small trees of apps: tenants.yaml, and the lines to change."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.app_trees import FOLDERS, TREES, applied, facts, planned
from flyatc.admin.app_folder import KNOWN
from flyatc.admin.init import detect, image, report, tenants_file
from flyatc.admin.init.facts import Facts, app_name
from flyatc.admin.init.plan import Plan
from flyatc.admin.init.procfile import words
from flyatc.config.schema import App
from pure.test_config_resolve import resolved


def app(plan: Plan) -> App:
    """Return ``app`` of the tenants.yaml, as flyatc reads it."""
    tenants = resolved(tenants_file.render(plan)).tenants
    assert list(tenants) == ["bellevue/2025/winter", "bellevue/2025/summer"]
    return tenants["bellevue/2025/winter"].app


def env(name: str) -> dict[str, str | None]:
    return app(planned(TREES[name], *FOLDERS)).env


def changes(name: str) -> list[str]:
    return [f"{one.file}:{one.line} {one.new}" for one in planned(TREES[name], *FOLDERS).changes]


@pytest.mark.parametrize("name", TREES)
def test_the_file_is_read_by_flyatc_as_it_was_planned(name: str) -> None:
    plan = planned(TREES[name], *FOLDERS)
    read = app(plan)
    assert read.command == list(plan.command)
    assert [one for one in read.before_start if isinstance(one, list)] == [list(one) for one in plan.before_start]
    assert read.env == {one.name: one.value for one in plan.env}
    assert (read.ready, read.files) == (None if plan.ready is None else plan.ready, list(plan.files))
    assert read.strip_prefix is plan.strip_prefix
    assert [(one.path, one.immutable) for one in read.delivery.static] == [
        (one.path, one.digests) for one in plan.static
    ]
    assert any("{data}" in (value or "") for value in read.env.values())
    assert max(map(len, tenants_file.render(plan).splitlines())) <= 125


@pytest.mark.parametrize("name", TREES)
def test_each_change_names_a_line_that_is_there(name: str) -> None:
    for one in planned(TREES[name], *FOLDERS).changes:
        if one.old is not None:
            assert one.line is not None
            assert TREES[name][one.file].splitlines()[one.line - 1].strip() == one.old


@pytest.mark.parametrize("name", TREES)
def test_when_the_changes_are_made_none_is_left_and_the_file_stays_the_same(name: str) -> None:
    before = planned(TREES[name], *FOLDERS)
    after = planned(applied(TREES[name], before.changes), *FOLDERS)
    assert after.changes == ()
    assert tenants_file.render(after) == tenants_file.render(before)


KINDS = [
    ("rails8", "Rails 8.0", "bin/rails server"),
    ("rails6", "Rails 6.1", "bin/rails server"),
    ("django", "Django 5.2", "gunicorn shop.wsgi --bind 127.0.0.1:{port} --threads 4"),
    ("flask", "Flask (WSGI)", "gunicorn shop.web:server --bind 127.0.0.1:{port} --threads 4"),
    ("fastapi", "FastAPI (ASGI)", "uvicorn main:app --host 127.0.0.1 --port {port} --root-path {prefix}"),
    ("express", "Node, express, better-sqlite3", "node server.js"),
    ("sequelize", "Node, sqlite3, Sequelize", "npm start"),
    ("prisma", "Node, fastify, Prisma", "node index.js"),
    ("knex", "Node, Knex", "node index.mjs"),
    ("typeorm", "Node, TypeORM", "node dist/main.js"),
    ("drizzle", "Node, Drizzle, node:sqlite", "node src/index.js"),
    ("laravel11", "Laravel 11", "php -S 127.0.0.1:{port} -t public"),
    ("laravel8", "Laravel 8", "php -S 127.0.0.1:{port} -t public"),
    ("php", "PHP", "php -d session.save_path={data} -S 127.0.0.1:{port} -t public"),
    ("php_flat", "PHP", "php -d session.save_path={data} -S 127.0.0.1:{port} -t ."),
    ("procfile", "an app with a Procfile", "bin/shop --listen 127.0.0.1:{port}"),
]


@pytest.mark.parametrize(("name", "stack", "command"), KINDS)
def test_the_kind_of_app_and_its_command(name: str, stack: str, command: str) -> None:
    plan = planned(TREES[name], *FOLDERS)
    assert (plan.stack, " ".join(plan.command)) == (stack, command)


def test_every_tree_is_expected_above() -> None:
    assert [name for name, _, _ in KINDS] == list(TREES)


def test_rails_gets_its_databases_by_variables_and_does_not_save_the_cache() -> None:
    plan = planned(TREES["rails8"], *FOLDERS)
    assert plan.databases == (
        "production.sqlite3", "!production_cache.sqlite3", "production_queue.sqlite3", "production_cable.sqlite3",
    )  # fmt: skip
    assert env("rails8")["QUEUE_DATABASE_URL"] == "sqlite3:{data}/production_queue.sqlite3"
    assert env("rails8")["SOLID_QUEUE_IN_PUMA"] == "1"
    assert env("rails6")["DATABASE_URL"] == "sqlite3:{data}/live.sqlite3"
    assert env("rails6").keys() >= {"RAILS_LOG_TO_STDOUT", "RAILS_SERVE_STATIC_FILES", "RAILS_RELATIVE_URL_ROOT"}
    assert app(plan).ready == "{prefix}/up"
    assert planned(TREES["rails6"]).ready is None


def test_rails_changes_config_ru_the_uploads_the_redirect_to_https_and_a_fixed_port() -> None:
    assert changes("rails8") == [
        'config.ru:3 map(ENV.fetch("RAILS_RELATIVE_URL_ROOT", "/")) { run Rails.application }',
        'config/storage.yml:7 root: <%= ENV.fetch("UPLOADS") { Rails.root.join("storage") } %>',
        'config/environments/production.rb:3 config.assume_ssl = ENV.key?("FLY_APP_NAME")',
        'config/environments/production.rb:4 config.force_ssl = ENV.key?("FLY_APP_NAME")',
    ]
    assert changes("rails6")[-1] == 'config/puma.rb:1 port ENV.fetch("PORT", 4000)'


def test_django_changes_its_settings() -> None:
    assert changes("django") == [
        "shop/settings.py:1 import os",
        'shop/settings.py:4 SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "")',
        'shop/settings.py:5 DEBUG = os.environ.get("DJANGO_DEBUG") == "1"',
        'shop/settings.py:6 ALLOWED_HOSTS = ["127.0.0.1", "localhost", ".fly.dev"]',
        'shop/settings.py:9 "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode = WAL"},',
        "shop/settings.py:10 'NAME': os.environ.get(\"DATABASE_PATH\", BASE_DIR / 'db.sqlite3'),",
        'shop/settings.py:13 STATIC_URL = "static/"',
        'shop/settings.py:13 STATIC_ROOT = BASE_DIR / "staticfiles"',
        "shop/settings.py:14 MEDIA_ROOT = os.environ.get(\"MEDIA_ROOT\", BASE_DIR / 'media')",
        'shop/settings.py:15 LOGIN_URL = os.environ.get("SCRIPT_NAME", "") + \'/accounts/login/\'',
        "requirements.txt:None gunicorn",
    ]
    assert planned(TREES["django"]).steps == ("python manage.py collectstatic --noinput",)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("requirements.txt", "Django==5.2", "Django==5.0"),
        ("requirements.txt", "Django==5.2", "Django~=4.2"),
        ("shop/settings.py", "'NAME'", "'OPTIONS': {'timeout': 20},\n        'NAME'"),
        ("shop/settings.py", "LOGIN_URL", "SQL = 'PRAGMA journal_mode=WAL'\nLOGIN_URL"),
    ],
)
def test_django_sets_no_wal_mode_where_it_cannot_or_the_app_has_options(file: str, old: str, new: str) -> None:
    tree = TREES["django"] | {file: TREES["django"][file].replace(old, new)}
    assert "journal_mode" not in " ".join(one.new for one in planned(tree).changes)


def test_django_reads_the_variables_that_the_settings_read_already() -> None:
    tree = TREES["django"] | {
        "shop/settings.py": "SECRET_KEY = env('KEY')\nDATABASES = {'default': env.db('DATABASE_URL')}\n"
        "MEDIA_ROOT = os.getenv('MEDIA')\nSTATIC_ROOT = BASE_DIR / 'out'\nSTATIC_URL = 'assets/'\n"
    }
    plan = planned(tree)
    assert {"KEY": "{secret}", "DATABASE_URL": "sqlite:///{data}/db.sqlite3", "MEDIA": "{data}/media"}.items() <= app(
        plan
    ).env.items()
    assert [(one.path, one.folder) for one in plan.static] == [("/assets", "out")]
    assert [one.file for one in plan.changes] == ["requirements.txt"]


def test_python_apps_read_database_and_secret_from_the_environment() -> None:
    assert changes("flask") == [
        "shop/web.py:1 import os",
        'shop/web.py:5 server.secret_key = os.environ["SECRET_KEY"]',
        'shop/web.py:6 db = sqlite3.connect(os.environ.get("DATABASE_PATH", "shop.db"), check_same_thread=False)',
    ]
    assert env("flask")["SCRIPT_NAME"] == "{prefix}"
    assert env("fastapi") == {"DATABASE_URL": "sqlite:///{data}/app.sqlite3"}
    assert planned(TREES["fastapi"]).strip_prefix, "uvicorn puts the root path before the path itself"


@pytest.mark.parametrize(
    ("line", "new"),
    [
        (
            'app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.db"',
            'app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("DATABASE_URL", "sqlite:///shop.db")',
        ),
        ("app.config['DATABASE'] = 'shop.db'", "app.config['DATABASE'] = os.environ.get(\"DATABASE_PATH\", 'shop.db')"),
        (
            'db = connect("shop.db"); port = os.environ["PORT"]',
            'db = connect(os.environ.get("DATABASE_PATH", "shop.db")); port = os.environ["PORT"]',
        ),
        ('db = connect(os.environ.get("SHOP") or "shop.db")', None),
    ],
)
def test_a_variable_that_is_set_or_read_for_something_else_names_no_database(line: str, new: str | None) -> None:
    source = f"import os\nfrom flask import Flask\napp = Flask(__name__)\n{line}\n"
    plan = planned({"requirements.txt": "flask\ngunicorn\n", "app.py": source})
    assert [one.new for one in plan.changes] == ([] if new is None else [new])


def test_a_port_beside_a_database_in_one_line_of_node_names_no_database() -> None:
    source = "const db = new Database('shop.db'); require('express')().listen(process.env.PORT)\n"
    manifest = (
        '{"main": "index.js", "scripts": {"start": "node ."}, "dependencies": {"express": "5", "better-sqlite3": "12"}}'
    )
    plan = planned({"package.json": manifest, "index.js": source})
    assert "PORT" not in app(plan).env
    assert [one.new for one in plan.changes] == [source.rstrip().replace("'shop", "process.env.DATABASE_PATH || 'shop")]


def test_a_flask_app_that_a_function_makes_is_started_by_it() -> None:
    source = "from flask import Flask\n\ndef create_app(test_config=None):\n    return Flask(__name__)\n"
    plan = planned(
        {"pyproject.toml": '[project]\ndependencies = ["flask", "gunicorn"]\n', "src/shop/__init__.py": source}
    )
    assert plan.command[:2] == ("gunicorn", "shop:create_app()")
    source = source.replace("test_config=None", "config")
    assert detect.plan(facts({"requirements.txt": "flask\n", "shop.py": source})) is None, "it needs an argument"


def test_an_import_of_os_is_added_where_a_new_line_needs_it_outside_of_other_statements() -> None:
    source = """\"\"\"A shop,
from here.
\"\"\"
from __future__ import annotations
from flask import (
    Flask,
)
from json import dumps

app = Flask(__name__)
app.config["SECRET_KEY"] = 'x'
"""
    tree = {"requirements.txt": "flask\ngunicorn\n", "src/web.py": source}
    assert [f"{one.line} {one.new}" for one in planned(tree).changes] == [
        "8 import os",
        '11 app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]',
    ]
    assert planned(tree).command[1] == "src.web:app"
    assert planned(tree | {"pyproject.toml": "[project]\n"}).command[1] == "web:app"
    assert planned(tree | {"src/web.py": f"import sys, os\n{source}"}).changes[0].line == 12


def test_node_apps_read_port_database_secret_and_uploads_from_the_environment() -> None:
    assert changes("express") == [
        'server.js:2 const db = new Database(process.env.DATABASE_PATH || path.join(__dirname, "dev.sqlite3"));',
        "server.js:3 app.use(session({ secret: process.env.SESSION_SECRET }));",
        'server.js:4 app.use(multer({ dest: process.env.UPLOADS || "uploads/" }).single("file"));',
        'server.js:5 app.listen(process.env.PORT || 3000, () => console.log("up"));',
    ]
    assert planned(TREES["express"]).files == ("uploads",)
    assert changes("sequelize") == ['config/config.json:7 "use_env_variable": "DATABASE_URL"']
    assert env("sequelize")["DATABASE_URL"] == "sqlite:{data}/app.sqlite3"
    assert changes("prisma") == [
        'index.js:1 app.listen({ port: process.env.PORT || 3000, host: "127.0.0.1" });',
        'prisma/schema.prisma:3 url = env("DATABASE_URL")',
    ]
    assert changes("knex") == ['knexfile.js:3 connection: { filename: process.env.DATABASE_PATH || "./shop.sqlite3" },']
    assert changes("drizzle") == [
        "src/index.js:2 const db = new DatabaseSync((process.env.DATABASE_PATH || `${__dirname}/a.db`) ?? x);",
        "src/index.js:3 const log = new DatabaseSync(process.env.LOG_DATABASE_PATH || __dirname + '/log.db');",
    ]


@pytest.mark.parametrize(
    ("name", "migration"),
    [
        ("sequelize", "npx sequelize-cli db:migrate"),
        ("prisma", "npx prisma migrate deploy"),
        ("knex", "npx knex migrate:latest"),
        ("typeorm", "npx typeorm migration:run -d dist/data-source.js"),
        ("drizzle", "npx drizzle-kit migrate"),
        ("rails8", "bin/rails db:prepare"),
        ("laravel8", "php artisan migrate --force"),
        ("procfile", "bin/shop migrate"),
    ],
)
def test_migrations_run_before_the_start(name: str, migration: str) -> None:
    assert " ".join(planned(TREES[name]).before_start[-1]) == migration


def test_files_with_different_names_stay_different_databases() -> None:
    assert planned(TREES["php"]).databases == ("app.sqlite3", "log.sqlite3")
    assert env("drizzle")["LOG_DATABASE_PATH"] == "{data}/log.sqlite3"


@pytest.mark.parametrize(
    ("line", "variable"),
    [
        ("$d = new SQLite3(getenv('NOTES') ?: 'notes.db'); $m = $_SERVER['REQUEST_METHOD'];", "NOTES"),
        ("$m = $_SERVER['REQUEST_METHOD']; $d = new SQLite3('notes.db');", "DATABASE_PATH"),
        ("$d = new SQLite3('notes.db'); if ($_SERVER['REQUEST_METHOD'] == 'POST') save();", "DATABASE_PATH"),
    ],
)
def test_php_reads_the_database_from_a_variable_of_the_same_statement_only(line: str, variable: str) -> None:
    plan = planned({"public/index.php": f"<?php {line}\n"})
    assert next(one.name for one in plan.env if one.value.endswith("app.sqlite3")) == variable
    assert bool(plan.changes) == (variable == "DATABASE_PATH")


def test_laravel_keeps_cache_sessions_and_uploads_of_tenants_apart_and_trusts_the_proxy() -> None:
    assert {"CACHE_PATH": "{data}/cache", "SESSION_FILES": "{data}/sessions"}.items() <= env("laravel8").items()
    assert env("laravel11")["APP_KEY"] == "base64:{secret.base64}"
    assert changes("laravel11")[-1] == "bootstrap/app.php:1 $middleware->trustProxies(at: '127.0.0.1');"
    assert ["mkdir", "-p", "{data}/sessions"] in app(planned(TREES["laravel8"])).before_start, "Laravel does not"
    assert changes("laravel8")[-3:] == [
        "app/Http/Middleware/TrustProxies.php:3 protected $proxies = '127.0.0.1';",
        "app/Http/Middleware/TrustProxies.php:3 protected function getTrustedHeaderNames() { return $this->headers; }",
        "app/Http/Middleware/TrustProxies.php:6 "
        "Request::HEADER_X_FORWARDED_PROTO | Request::HEADER_X_FORWARDED_PREFIX |",
    ]


def test_pages_of_php_in_the_folder_of_the_file_keep_data_and_store_out_of_it() -> None:
    plan = planned(TREES["php_flat"])
    config = resolved(tenants_file.render(plan))
    assert (str(config.server.data), config.storage.url) == ("/srv/site/../shop-data", "file:/srv/site/../shop-store")
    assert "sends tenants.yaml" in plan.warnings[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bin/web -p $PORT", "bin/web -p {port}"),
        ("bin/web -p ${PORT:-80}", "bin/web -p {port}"),
        ("WEB=2 bin/web", "sh -c exec env WEB=2 bin/web"),
        ("bin/web -w ${WEB:-2}", "sh -c exec bin/web -w ${{WEB:-2}}"),
        ("cd web && ./run $PORT", "sh -c cd web && ./run {port}"),
        ("bin/web 'unfinished", "sh -c exec bin/web 'unfinished"),
        ("bin/web {a}", "bin/web {{a}}"),
    ],
)
def test_a_line_of_a_procfile_runs_without_a_shell_where_that_is_possible(line: str, expected: str) -> None:
    assert " ".join(words(line)) == expected


def test_other_lines_of_a_procfile_are_named() -> None:
    assert planned(TREES["procfile"]).warnings[0].startswith("Procfile:3: flyatc runs one command for each tenant")


def test_what_flyatc_does_not_save_is_said() -> None:
    def warned(tree: dict[str, str]) -> str:
        return " ".join(planned(tree).warnings)

    rails, django, express = TREES["rails6"], TREES["django"], TREES["express"]
    assert "config/database.yml:2 is for postgresql" in warned(
        rails | {"config/database.yml": "production:\n  adapter: postgresql\n"}
    )
    assert "sidekiq" not in warned(rails)
    assert "Gemfile.lock:3 keeps jobs in Redis" in warned(
        rails | {"Gemfile.lock": "GEM\n  specs:\n    sidekiq (7.0)\n    rails (6.1.7)\n"}
    )
    engine = django["shop/settings.py"].replace("sqlite3'", "postgresql'", 1)
    assert "shop/settings.py:9 is for postgresql" in warned(django | {"shop/settings.py": engine})
    assert "package.json has pg" in warned(
        express | {"package.json": '{"main": "server.js", "dependencies": {"pg": "1"}}'}
    )
    assert 'views/a.ejs:1 href="/orders": links that lead out' in warned(
        express | {"views/a.ejs": '<a href="/orders">'}
    )
    assert "Dockerfile:1 compiles the environment" in warned(
        TREES["laravel8"] | {"Dockerfile": "RUN php artisan config:cache\n"}
    )


def test_a_repository_is_kept_from_having_the_tenants_databases() -> None:
    tree = TREES["express"] | {".gitignore": "node_modules\n/data\n"}
    assert [one.new for one in planned(tree).changes if one.file == ".gitignore"] == ["/store/"]


def test_an_existing_dockerfile_gets_flyatc_above_its_user_and_as_its_command() -> None:
    found = list(image.changes(facts(TREES["rails8"])))
    assert [(one.line, one.old, one.new) for one in found if one.old] == [
        (11, 'CMD ["./bin/thrust", "./bin/rails", "server"]', 'CMD ["flyatc", "serve"]')
    ]
    assert {one.line for one in found if one.old is None} == {7}
    assert any("FLYATC_CONFIG=/rails/tenants.yaml" in one.new for one in found)
    assert "RUN install --directory --owner=1000 /data" in [one.new for one in found]
    assert list(image.changes(facts({"Dockerfile": image.dockerfile(planned(TREES["express"]))}))) == []


def test_an_alpine_image_is_named() -> None:
    found = next(image.changes(facts({"Dockerfile": 'FROM node:22-alpine\nCOPY . .\nCMD ["node", "a.js"]\n'})))
    assert found.why.startswith("node:22-alpine has no glibc")


def test_an_existing_fly_toml_gets_what_flyatc_needs() -> None:
    found = list(image.fly_changes(facts({"fly.toml": 'app = "x"\n  internal_port = 8080\nkill_timeout = 60\n'})))
    assert [one.new.split()[0] for one in found] == [
        "kill_signal",
        "[[mounts]]",
        "[[http_service.checks]]",
        "internal_port",
    ]
    assert found[-1].line == 2
    assert list(image.fly_changes(facts({"fly.toml": image.fly_toml("x")}))) == []


@pytest.mark.parametrize(("folder", "name"), [("My Shop_2", "my-shop-2"), ("---", "my-app"), ("é" * 99, "my-app")])
def test_an_app_on_fly_is_named_after_the_folder(folder: str, name: str) -> None:
    assert app_name(folder) == name


def test_a_folder_without_an_app_has_no_plan() -> None:
    assert detect.plan(facts({"README.md": "x", "package.json": '{"main": "index.js"}'})) is None


def test_of_many_files_that_were_not_read_five_are_named() -> None:
    lines = list(report.header(planned(TREES["express"]), [f"{number}.js: a link" for number in range(900)]))
    assert lines[1:] == [*(f"  not read: {number}.js: a link" for number in range(5)), "  not read: 895 more"]


DEEP = "[" * 100_000
HOSTILE = [
    DEEP, json.dumps({"dependencies": [1], "scripts": 3, "main": {}}), '{"scripts": {"start": "node \\u0000 {x}"}}',
    "web: \x00 ${PORT", "web:", "    rails (", "production:", "  database:", "run ", "\ufffd" * 99, "a" * 5000,
    "process.env.PORT x.sqlite", "'sqlite:' . 'x.db'", "NAME': 'x.sqlite", "STATIC_URL = '/é/'", "SECRET_KEY = '",
    'process.env["A-B"] "x.db"', '"{data}/x.db"', '{"main": "a: b #c.js", "scripts": {"build": "x"}}',
]  # fmt: skip
LINES = sorted({line for tree in TREES.values() for text in tree.values() for line in text.splitlines()} | {*HOSTILE})
PATHS = sorted({*KNOWN, *(path for tree in TREES.values() for path in tree)})


@settings(max_examples=60, deadline=None)
@given(
    base=st.sampled_from([{}, *TREES.values()]),
    over=st.dictionaries(
        st.sampled_from(PATHS),
        st.lists(st.sampled_from(LINES) | st.text(max_size=30), max_size=8).map("\n".join),
        max_size=6,
    ),
)
def test_any_tree_gives_no_plan_or_a_file_without_faults(base: dict[str, str], over: dict[str, str]) -> None:
    found = facts(base | over)
    plan = detect.plan(found)
    if plan is not None:
        assert app(plan).command == list(plan.command)
        lines = [*report.changes("x", plan.changes), *report.notes(plan), *report.header(plan, ())]
        assert all("\n" not in line for line in lines)
        assert image.dockerfile(plan)
    assert list(image.changes(found)) is not None
    assert list(image.fly_changes(found)) is not None


@pytest.mark.parametrize("text", [DEEP, "[]", '"x"', '{"a": ' * 9999, "{", "1" * 9999, ""])
def test_what_is_no_json_object_counts_as_empty(text: str) -> None:
    assert Facts("x", {"package.json": text}).object("package.json") == {}
