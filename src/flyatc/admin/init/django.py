"""Django: the settings that must come from the environment, and the static files that flyatc serves."""

import itertools
import re
from collections.abc import Iterator

from flyatc.admin.init import python
from flyatc.admin.init.facts import Facts, Hit, first
from flyatc.admin.init.plan import Change, Plan, Static, Variable, change

_ENVIRONMENT_URL = r"dj_database_url|env\.db(?:_url)?\(|django-environ"
HOSTS = '["127.0.0.1", "localhost", ".fly.dev"]'
STATIC_ROOT = "staticfiles"


def plan(facts: Facts) -> Plan | None:
    manage = facts.find(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)['\"]", "manage.py")
    if manage is None:
        return None
    module = manage.match[1]
    settings = _settings(facts, module)
    name, database = _database(facts, settings)
    secret, secrets = _secret(facts, settings)
    media, uploads = _media(facts, settings)
    changes = [
        *secrets,
        *_debug(facts, settings),
        *database,
        *_wal(facts, settings),
        *_static(facts, settings),
        *uploads,
        *_links(facts, settings),
    ]
    project, asgi = module.split(".")[0], _asgi(facts)  # uvicorn has the prefix as --root-path
    version = facts.find(r"(?i)^\s*['\"]?django\s*[=~><]=\s*(\d+\.\d+)", *python.MANIFESTS)
    return Plan(
        stack=f"Django {version.match[1]}" if version else "Django",
        seen=(str(manage), *settings[:1]),
        command=python.server(f"{project}.asgi:application" if asgi else f"{project}.wsgi", asgi=asgi),
        before_start=(("python", "manage.py", "migrate", "--noinput"),),
        env=(
            Variable("SCRIPT_NAME", "{prefix}", "for LOGIN_URL" if asgi else "gunicorn reads it: links begin with it"),
            Variable(secret, "{secret}", "sessions of a tenant are valid at no other"),
            name,
            *media,
        ),
        databases=("db.sqlite3",),
        files=("media",) if media else (),
        strip_prefix=asgi,
        static=(Static(_static_path(facts, settings), _static_folder(facts, settings)),),
        changes=(*changes, *python.imports(facts, changes), *python.needs(facts, asgi=asgi)),
        steps=("python manage.py collectstatic --noinput",),
        warnings=tuple(_warnings(facts, settings)),
        image=python.image(facts, build=("RUN python manage.py collectstatic --noinput",)),
    )


def _settings(facts: Facts, module: str) -> list[str]:
    """Return the files of the settings: of a package all modules, production first."""
    path = module.replace(".", "/")
    package = path if facts.has(f"{path}/__init__.py") else path.rpartition("/")[0]
    found = [file for file in (f"{path}.py", f"{path}/__init__.py") if facts.has(file)]
    if package.endswith("settings"):
        names = ("production", "prod", "base", "common")
        found += [file for name in names if (file := facts.has(f"{package}/{name}.py")) and file not in found]
    return found


def _asgi(facts: Facts) -> bool:
    return python.requirement(facts, "gunicorn") is None and python.requirement(facts, "uvicorn") is not None


def _secret(facts: Facts, settings: list[str]) -> tuple[str, list[Change]]:
    hit = facts.find(r"^SECRET_KEY\s*=\s*(\S.*)$", *settings)
    if hit is None:
        return "DJANGO_SECRET_KEY", []
    if known := python.reads(hit.match[1]):
        return known, []
    new = 'SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "")'
    return "DJANGO_SECRET_KEY", [change(hit, new, "a secret for each tenant")]


def _database(facts: Facts, settings: list[str]) -> tuple[Variable, list[Change]]:
    if at := facts.find(_ENVIRONMENT_URL, *settings):
        return Variable("DATABASE_URL", "sqlite:///{data}/db.sqlite3", f"see {at.file}"), []
    path = Variable("DATABASE_PATH", "{data}/db.sqlite3")
    for hit in facts.hits(r"""['"]NAME['"]\s*:\s*(\S.*)$""", *settings):
        written = hit.match[1].strip().removesuffix(",")
        if not re.search(r"sqlite|\.db\b", written):
            continue
        if known := python.reads(written):
            return Variable(known, path.value, f"see {hit.file}"), []
        new = hit.text.replace(written, f'os.environ.get("DATABASE_PATH", {written})', 1)
        return Variable(path.name, path.value, f"see {hit.file}"), [
            change(hit, new, "each tenant has its own database")
        ]
    return path, []


def _wal(facts: Facts, settings: list[str]) -> Iterator[Change]:
    """Have Django set WAL mode, which it can from 5.1 on: without it a save delays writes, and nothing is streamed."""
    engine = facts.find(r"""^(\s*)['"]ENGINE['"]\s*:\s*['"]django\.db\.backends\.sqlite3['"]\s*,\s*$""", *settings)
    old = facts.find(r"(?i)^\s*['\"]?django\s*[=~<]=?\s*(?:[1-4]\.|5\.0)", *python.MANIFESTS)
    if engine is None or old is not None or facts.find(r"journal_mode", *settings) is not None:
        return
    rest = facts.text(engine.file).splitlines()[engine.line :]
    if not any("OPTIONS" in line for line in itertools.takewhile(lambda line: line[:1] in (" ", "\t"), rest)):
        options = '"OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode = WAL"},'
        yield Change(engine.file, options, "WAL mode, from Django 5.1 on: a save delays no write", engine.line)


def _debug(facts: Facts, settings: list[str]) -> Iterator[Change]:
    if hit := facts.find(r"^DEBUG\s*=\s*True\b", *settings):
        yield change(hit, 'DEBUG = os.environ.get("DJANGO_DEBUG") == "1"', "pages of errors show settings")
    if hit := facts.find(r"^ALLOWED_HOSTS\s*=\s*\[\s*\]", *settings):
        yield change(hit, f"ALLOWED_HOSTS = {HOSTS}", "and your own host; without DEBUG none is allowed")


def _static_path(facts: Facts, settings: list[str]) -> str:
    hit = facts.find(r"""^STATIC_URL\s*=\s*['"]/?([\w/-]+?)/?['"]""", *settings)
    return f"/{hit.match[1]}" if hit else "/static"


def _static_folder(facts: Facts, settings: list[str]) -> str:
    hit = facts.find(r"""^STATIC_ROOT\s*=.*['"]/?([\w/-]+?)/?['"]\s*\)?\s*$""", *settings)
    return hit.match[1] if hit else STATIC_ROOT


def _static(facts: Facts, settings: list[str]) -> Iterator[Change]:
    """Have Django put its prefix before the URLs of static files, which it does if they begin without a slash."""
    url = facts.find(r"""^STATIC_URL\s*=\s*['"]/([\w/-]+)['"]""", *settings)
    if url is not None:
        yield change(url, f'STATIC_URL = "{url.match[1]}"', "without a slash before it Django adds the prefix")
    if facts.find(r"^STATIC_ROOT\s*=", *settings) is None and settings:
        at = first(url, facts.find(r"^STATIC_URL\s*=", *settings))
        file, line = (at.file, at.line) if at else (settings[0], None)
        yield Change(file, f'STATIC_ROOT = BASE_DIR / "{STATIC_ROOT}"', "collectstatic writes there", line)


def _media(facts: Facts, settings: list[str]) -> tuple[list[Variable], list[Change]]:
    hit = facts.find(r"^MEDIA_ROOT\s*=\s*(\S.*)$", *settings)
    if hit is None:
        return [], []
    name = python.reads(hit.match[1]) or "MEDIA_ROOT"
    variable = Variable(name, "{data}/media", "uploads")
    if name in hit.match[1]:
        return [variable], []
    new = f'MEDIA_ROOT = os.environ.get("MEDIA_ROOT", {hit.match[1].rstrip()})'
    return [variable], [change(hit, new, "each tenant has its own uploads")]


def _links(facts: Facts, settings: list[str]) -> Iterator[Change]:
    for hit in facts.hits(
        r"""^(LOGIN_URL|LOGIN_REDIRECT_URL|LOGOUT_REDIRECT_URL)\s*=\s*(['"]/[^'"]*['"])""", *settings
    ):
        new = f'{hit.match[1]} = os.environ.get("SCRIPT_NAME", "") + {hit.match[2]}'
        yield change(hit, new, "Django does not put the prefix before it")


def _warnings(facts: Facts, settings: list[str]) -> Iterator[str]:
    engine: Hit | None = facts.find(r"django\.db\.backends\.(postgresql|mysql|oracle)", *settings)
    if engine is not None:
        yield f"{engine} is for {engine.match[1]}: flyatc saves SQLite only, django.db.backends.sqlite3"
    origins = facts.find(r"^CSRF_TRUSTED_ORIGINS\s*=", *settings)
    if origins is not None:
        yield f"{origins} must list the origin of clients, such as https://my-app.fly.dev"
    if not settings:
        yield "the file of the settings was not found: its database, SECRET_KEY and STATIC_ROOT must come from the env"
