"""Small trees of apps, as data: the lines that flyatc init looks for, as the frameworks' generators write them."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from flyatc.admin.init import detect
from flyatc.admin.init.facts import Facts
from flyatc.admin.init.plan import Change, Plan

RAILS_8 = {
    "Gemfile": 'source "https://rubygems.org"\ngem "rails", "~> 8.0.1"\ngem "sqlite3", ">= 2.1"\n',
    "Gemfile.lock": "GEM\n  specs:\n    rails (8.0.1)\n      actioncable (= 8.0.1)\n    solid_queue (1.1.2)\n",
    "config.ru": 'require_relative "config/environment"\n\nrun Rails.application\nRails.application.load_server\n',
    "config/application.rb": 'require "rails/all"\n',
    "config/database.yml": """\
default: &default
  adapter: sqlite3
  timeout: 5000

development:
  <<: *default
  database: storage/development.sqlite3

# Store production database in the storage/ directory
production:
  primary:
    <<: *default
    database: storage/production.sqlite3
  cache:
    <<: *default
    database: storage/production_cache.sqlite3
    migrations_paths: db/cache_migrate
  queue:
    <<: *default
    database: storage/production_queue.sqlite3
    migrations_paths: db/queue_migrate
  cable:
    <<: *default
    database: storage/production_cable.sqlite3
    migrations_paths: db/cable_migrate
""",
    "config/storage.yml": """\
test:
  service: Disk
  root: <%= Rails.root.join("tmp/storage") %>

local:
  service: Disk
  root: <%= Rails.root.join("storage") %>
""",
    "config/environments/production.rb": """\
Rails.application.configure do
  config.active_storage.service = :local
  config.assume_ssl = true
  config.force_ssl = true
  # config.hosts = ["example.com"]
end
""",
    "config/puma.rb": 'port ENV.fetch("PORT", 3000)\nplugin :solid_queue if ENV["SOLID_QUEUE_IN_PUMA"]\n',
    "config/routes.rb": 'get "up" => "rails/health#show", as: :rails_health_check\n',
    "bin/rails": "#!/usr/bin/env ruby\n",
    ".ruby-version": "ruby-3.4.1\n",
    "Dockerfile": """\
ARG RUBY_VERSION=3.4.1
FROM docker.io/library/ruby:$RUBY_VERSION-slim AS base
WORKDIR /rails
FROM base AS build
COPY . .
FROM base
COPY --from=build /rails /rails
USER 1000:1000
ENTRYPOINT ["/rails/bin/docker-entrypoint"]
EXPOSE 80
CMD ["./bin/thrust", "./bin/rails", "server"]
""",
}
RAILS_6 = {
    **{name: RAILS_8[name] for name in ("config.ru", "config/application.rb", "config/storage.yml", "bin/rails")},
    "Gemfile.lock": "GEM\n  specs:\n    rails (6.1.7.10)\n",
    "config/database.yml": "production:\n  adapter: sqlite3\n  database: db/live.sqlite3\n",
    "config/environments/production.rb": """\
Rails.application.configure do
  config.public_file_server.enabled = ENV['RAILS_SERVE_STATIC_FILES'].present?
  config.active_storage.service = :local
  # config.force_ssl = true
  if ENV["RAILS_LOG_TO_STDOUT"].present?
  end
end
""",
    "config/puma.rb": "port 4000\n",
    "config/routes.rb": "Rails.application.routes.draw do\nend\n",
}
DJANGO = {
    "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n",
    "shop/__init__.py": "",
    "shop/wsgi.py": "application = get_wsgi_application()\n",
    "shop/settings.py": """\
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = 'django-insecure-0'
DEBUG = True
ALLOWED_HOSTS = []
DATABASES = {
    'default': {
        'ENGINE': 'django.db.backends.sqlite3',
        'NAME': BASE_DIR / 'db.sqlite3',
    }
}
STATIC_URL = '/static/'
MEDIA_ROOT = BASE_DIR / 'media'
LOGIN_URL = '/accounts/login/'
""",
    "requirements.txt": "Django==5.2\n",
}
FLASK = {
    "requirements.txt": "flask>=3\ngunicorn\n",
    "shop/__init__.py": "",
    "shop/web.py": """\
import sqlite3
from flask import Flask

server = Flask(__name__)
server.secret_key = "dev"
db = sqlite3.connect("shop.db", check_same_thread=False)
""",
}
FASTAPI = {
    "pyproject.toml": '[project]\nname = "shop"\ndependencies = ["fastapi>=0.110", "uvicorn"]\n',
    "main.py": """\
from fastapi import FastAPI
from sqlalchemy import create_engine

engine = create_engine("sqlite:///./shop.db")
app = FastAPI()
""",
}
EXPRESS = {
    "package.json": '{"scripts": {"start": "node server.js"}, "dependencies": {"express": "^4", "better-sqlite3": ""}}',
    "server.js": """\
const Database = require("better-sqlite3");
const db = new Database(path.join(__dirname, "dev.sqlite3"));
app.use(session({ secret: "keyboard cat" }));
app.use(multer({ dest: "uploads/" }).single("file"));
app.listen(3000, () => console.log("up"));
""",
}
SEQUELIZE = {
    "package.json": """\
{"main": "app.js", "scripts": {"start": "NODE_ENV=production node app.js | tee log"},
 "dependencies": {"sequelize": "^6", "sqlite3": "^5", "sequelize-cli": "^6"}}
""",
    "app.js": "app.listen(process.env.PORT || 3000);\n",
    "config/config.json": """\
{
  "development": {
    "storage": "./dev.sqlite3"
  },
  "production": {
    "dialect": "sqlite",
    "storage": "./live.sqlite3"
  }
}
""",
}
PRISMA = {
    "package.json": '{"main": "index.js", "dependencies": {"@prisma/client": "^6", "fastify": "^5"}}',
    "index.js": "app.listen({ port: 3000, host: 'localhost' });\n",
    "prisma/schema.prisma": 'datasource db {\n  provider = "sqlite"\n  url      = "file:./dev.db"\n}\n',
    "prisma/migrations/1/migration.sql": "",
}
KNEX = {
    "package.json": '{"main": "index.mjs", "dependencies": {"knex": "^3"}}',
    "index.mjs": "app.listen(process.env.PORT);\n",
    "knexfile.js": """\
module.exports = {
  client: "better-sqlite3",
  connection: { filename: "./shop.sqlite3" },
};
""",
}
TYPEORM = {
    "package.json": '{"main": "dist/main.js", "scripts": {"build": "tsc"}, "dependencies": {"typeorm": "^0.3"}}',
    "src/data-source.ts": 'new DataSource({ database: process.env.SHOP_DB || "shop.sqlite" })\n',
    "dist/data-source.js": 'new DataSource({ database: "shop.sqlite",\nmigrations: ["dist/migrations/*.js"] })\n',
}
DRIZZLE = {
    "package.json": '{"dependencies": {"drizzle-orm": "1"}, "devDependencies": {"drizzle-kit": "1"}}',
    "src/index.js": """\
const { DatabaseSync } = require('node:sqlite');
const db = new DatabaseSync(`${__dirname}/a.db` ?? x);
const log = new DatabaseSync(__dirname + '/log.db');
""",
    "drizzle.config.ts": "export default {};\n",
}
LARAVEL_11 = {
    "composer.json": '{"require": {"php": "^8.2", "laravel/framework": "^11.31"}}',
    "artisan": "#!/usr/bin/env php\n",
    "bootstrap/app.php": "    ->withMiddleware(function (Middleware $middleware) {\n        //\n    })\n",
    "config/cache.php": "    'path' => storage_path('framework/cache/data'),\n",
    "config/session.php": "    'files' => storage_path('framework/sessions'),\n",
    "config/filesystems.php": """\
'local' => [
    'root' => storage_path('app/private'),
],
'public' => [
    'root' => storage_path('app/public'),
],
""",
    "package.json": '{"devDependencies": {"vite": "^6"}}',
    "vite.config.js": "export default {}\n",
}
LARAVEL_8 = {
    **{name: LARAVEL_11[name] for name in ("artisan", "config/cache.php", "config/session.php")},
    "composer.json": '{"require": {"laravel/framework": "^8.75"}}',
    "app/Http/Middleware/TrustProxies.php": """\
class TrustProxies extends Middleware
{
    protected $proxies;
    protected $headers =
        Request::HEADER_X_FORWARDED_FOR |
        Request::HEADER_X_FORWARDED_PROTO |
        Request::HEADER_X_FORWARDED_AWS_ELB;
}
""",
}
PHP = {
    "public/index.php": """\
<?php
$db = new PDO('sqlite:' . __DIR__ . '/../shop.sqlite');
$log = new SQLite3("log.db");
move_uploaded_file($_FILES['f']['tmp_name'], __DIR__ . '/uploads');
""",
}
PHP_FLAT = {"index.php": "<?php $db = new PDO('sqlite:shop.db');\n"}
PROCFILE = {
    "Procfile": "release: bin/shop migrate\nweb: bin/shop --listen 127.0.0.1:${PORT:-5000}\nworker: bin/shop work\n",
}
TREES = {
    "rails8": RAILS_8, "rails6": RAILS_6, "django": DJANGO, "flask": FLASK, "fastapi": FASTAPI, "express": EXPRESS,
    "sequelize": SEQUELIZE, "prisma": PRISMA, "knex": KNEX, "typeorm": TYPEORM, "drizzle": DRIZZLE,
    "laravel11": LARAVEL_11, "laravel8": LARAVEL_8, "php": PHP,
    "php_flat": PHP_FLAT, "procfile": PROCFILE,
}  # fmt: skip
FOLDERS = ("app/assets",)


def facts(tree: dict[str, str], *folders: str) -> Facts:
    """Return the facts of a tree, with its folders and ``folders``."""
    parents = {parent.as_posix() for path in tree for parent in PurePosixPath(path).parents}
    return Facts("shop", tree, frozenset({*parents, *folders}) - {"."})


def planned(tree: dict[str, str], *folders: str) -> Plan:
    plan = detect.plan(facts(tree, *folders))
    assert plan is not None
    return plan


def applied(tree: dict[str, str], changes: Iterable[Change]) -> dict[str, str]:
    """Return the tree with all changes made, those at the end of a file first."""
    tree = dict(tree)
    for one in sorted(changes, key=lambda one: one.line or 0, reverse=True):
        lines = tree.get(one.file, "").splitlines()
        if one.line is None:
            lines.append(one.new)
        elif one.old is None:
            lines.insert(one.line, one.new)
        else:
            lines[one.line - 1] = lines[one.line - 1].replace(one.old, one.new)
        tree[one.file] = "\n".join(lines) + "\n"
    return tree
