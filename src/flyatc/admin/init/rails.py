"""Rails: paths of its databases by DATABASE_URL, which needs no change of config/database.yml."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from flyatc.admin.init.facts import Facts, Hit
from flyatc.admin.init.plan import Change, Image, Plan, Static, Variable, change

PRODUCTION, STORAGE_FILE = "config/environments/production.rb", "config/storage.yml"
# one compilation for all prefixes: url(/assets/x.svg) in CSS becomes url(../assets/x.svg), in Sprockets and Propshaft
PRECOMPILE = "RAILS_RELATIVE_URL_ROOT=.. RAILS_ENV=production SECRET_KEY_BASE=1"
_GEM = r"^\s*gem\s+['\"]{name}['\"](?:\s*,\s*['\"]\D{{0,4}}(\d[\w.]*))?"
_LOCKED = r"^ {{4}}{name} \((\d[\w.]*)\)"
_ON_FLY = 'ENV.key?("FLY_APP_NAME")'


def gem(facts: Facts, name: str) -> Hit | None:
    return facts.find(_LOCKED.format(name=name), "Gemfile.lock") or facts.find(_GEM.format(name=name), "Gemfile")


def plan(facts: Facts) -> Plan | None:
    found = gem(facts, "rails") or gem(facts, "railties")
    if found is None or facts.has("config.ru", "config/application.rb") is None:
        return None
    databases = list(_databases(facts))
    jobs = gem(facts, "solid_queue")
    uploads, uploaded = _uploads(facts)
    assets = bool(facts.folders & {"app/assets", "app/javascript"})
    rails = "bin/rails" if facts.has("bin/rails") else "rails"
    program = (rails,) if facts.has("bin/rails") else ("bundle", "exec", rails)
    version = ".".join((found.match[1] or "").split(".")[:2])
    return Plan(
        stack=f"Rails {version}".strip(),
        seen=(str(found),),
        command=(*program, "server"),
        listens="serves on $PORT",
        before_start=((*program, "db:prepare"),),
        env=(
            Variable("RAILS_ENV", "production"),
            Variable("RAILS_RELATIVE_URL_ROOT", "{prefix}", "links begin with it: see config.ru"),
            Variable("SECRET_KEY_BASE", "{secret}", "sessions of a tenant are valid at no other"),
            *(one for one, _ in databases),
            *uploads,
            *([Variable("SOLID_QUEUE_IN_PUMA", "1", "jobs run in the app's processes")] if jobs else []),
            *_switches(facts),
            Variable("BINDING", "127.0.0.1"),
            Variable("PIDFILE", "{data}/server.pid"),
        ),
        databases=tuple(name for _, name in databases),
        files=("uploads",) if uploads else (),
        ready="{prefix}/up" if facts.find(r"rails/health", "config/routes.rb") else None,
        static=(Static("/assets", "public/assets", digests=True),) if assets else (),
        changes=(*_mounted(facts), *uploaded, *_tls(facts), *_port(facts)),
        steps=(f"{PRECOMPILE} {' '.join(program)} assets:precompile",) if assets else (),
        warnings=tuple(_warnings(facts)),
        image=_image(facts, program, assets),
    )


def _production(facts: Facts) -> Iterator[tuple[str, Hit]]:
    """Yield the database of production in config/database.yml, each with its name; of one alone, "primary"."""
    name, indent, inside = "primary", 0, False
    for hit in facts.hits(r"^(\s*)([\w<]+):\s*(.*)$", "config/database.yml"):
        depth = len(hit.match[1])
        if depth == 0:
            inside, name = hit.match[2] == "production", "primary"
        elif inside and not hit.match[3] and hit.match[2] != "database":
            name, indent = hit.match[2], depth
        elif inside and hit.match[2] == "database":
            yield (name if depth > indent else "primary"), hit


def _databases(facts: Facts) -> Iterator[tuple[Variable, str]]:
    """Yield the variable and the pattern of each database."""
    found: list[tuple[str, Hit | None]] = [*_production(facts)]
    for name, hit in found or [("primary", None)]:
        variable = "DATABASE_URL" if name == "primary" else f"{name.upper()}_DATABASE_URL"
        file = "production.sqlite3" if name == "primary" else f"production_{name}.sqlite3"
        if hit is not None:
            written = PurePosixPath(hit.match[3].split("#")[0].strip(" \"'")).name
            if re.fullmatch(r"[\w.-]+\.(?:sqlite3?|db)", written):
                file = written
        why = "" if hit is None else f"instead of {hit.file}"
        cache = name == "cache"
        yield Variable(variable, f"sqlite3:{{data}}/{file}", why), f"!{file}" if cache else file


def _mounted(facts: Facts) -> Iterator[Change]:
    for hit in facts.hits(r"^\s*run\s+(\S.*)$", "config.ru"):
        new = f'map(ENV.fetch("RAILS_RELATIVE_URL_ROOT", "/")) {{ run {hit.match[1].strip()} }}'
        yield change(hit, new, "the app serves below its prefix")


def _uploads(facts: Facts) -> tuple[list[Variable], list[Change]]:
    """Return the variable for the folder of Active Storage, and the change that reads it."""
    service = facts.find(r"active_storage\.service\s*=\s*:(\w+)", PRODUCTION)
    at = facts.find(rf"^{service.match[1]}:", STORAGE_FILE) if service else None
    hits = facts.hits(r"^\s*root:\s*(\S.*)$", STORAGE_FILE)
    hit = next((one for one in hits if at is not None and one.line > at.line), None)
    if hit is None:
        return [], []
    variable = Variable("UPLOADS", "{data}/uploads", "Active Storage")
    if "UPLOADS" in hit.text:
        return [variable], []
    inner = re.fullmatch(r"<%=\s*(\S.*)%>", hit.match[1].strip())
    default = inner[1].strip() if inner else f'"{hit.match[1].strip()}"'
    new = f'root: <%= ENV.fetch("UPLOADS") {{ {default} }} %>'
    return [variable], [change(hit, new, "each tenant has its own uploads")]


def _switches(facts: Facts) -> Iterator[Variable]:
    for name in ("RAILS_LOG_TO_STDOUT", "RAILS_SERVE_STATIC_FILES"):
        if facts.find(name, PRODUCTION):
            yield Variable(name, "1", "into flyatc's log" if name.endswith("STDOUT") else "")


def _tls(facts: Facts) -> Iterator[Change]:
    for hit in facts.hits(r"^\s*config\.(assume_ssl|force_ssl)\s*=\s*true\b", PRODUCTION):
        new = f"config.{hit.match[1]} = {_ON_FLY}"
        yield change(hit, new, "otherwise http://localhost is redirected to https")


def _port(facts: Facts) -> Iterator[Change]:
    for hit in facts.hits(r"^\s*port\s*\(?\s*(\d+)\)?\s*$", "config/puma.rb"):
        yield change(hit, f'port ENV.fetch("PORT", {hit.match[1]})', "flyatc chooses the port")
    for hit in facts.hits(r"^\s*bind\s+['\"](?:unix|tcp)://", "config/puma.rb"):
        yield change(hit, 'port ENV.fetch("PORT", 3000)', "flyatc chooses the port")


def _warnings(facts: Facts) -> Iterator[str]:
    adapter = facts.find(r"^\s+adapter:\s*['\"]?(postgresql|mysql2|trilogy|sqlserver)", "config/database.yml")
    if adapter is not None:
        yield f"{adapter} is for {adapter.match[1]}: flyatc saves SQLite only, DATABASE_URL selects it; add gem sqlite3"
    if jobs := gem(facts, "sidekiq") or gem(facts, "resque"):
        yield f"{jobs} keeps jobs in Redis, where all tenants would share them: solid_queue keeps them in SQLite"


def _image(facts: Facts, program: tuple[str, ...], assets: bool) -> Image:
    version = facts.find(r"(\d+\.\d+(?:\.\d+)?)", ".ruby-version")
    build = f"RUN {PRECOMPILE} {' '.join(program)} assets:precompile"
    return Image(
        base=f"ruby:{version.match[1] if version else '3.3'}-slim-bookworm",
        packages=("build-essential", "git", "libsqlite3-dev", "libyaml-dev", "pkg-config"),
        manifests=tuple(file for file in ("Gemfile", "Gemfile.lock") if facts.has(file)),
        install=("ENV BUNDLE_WITHOUT=development:test RAILS_ENV=production", "RUN bundle install"),
        build=(build,) if assets else (),
    )
