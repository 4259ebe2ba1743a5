"""Python web apps other than Django: WSGI (Flask …) by gunicorn, ASGI (FastAPI, Starlette …) by uvicorn."""

import re
from collections.abc import Iterator

from flyatc.admin.init.facts import Facts, Hit, escaped, unique
from flyatc.admin.init.plan import Change, Image, Plan, Variable, change
from flyatc.admin.init.sqlite_files import SqliteFiles

MANIFESTS = ("requirements.txt", "pyproject.toml", "Pipfile", "requirements/production.txt", "requirements/base.txt")
ASGI, WSGI = ("fastapi", "starlette", "litestar", "quart"), ("flask", "bottle", "falcon", "pyramid")
_FACTORIES = r"^(\w+)\s*(?::\s*[\w.]+\s*)?=\s*(?:\w+\.)?(FastAPI|Starlette|Litestar|Quart|Flask|Bottle|Falcon|App)\("
_FACTORY_OF = {"falcon": "App"}
_READS = re.compile(  # and not: app.config["URI"] = …
    r"(?a)(?:environ|getenv|config|env)\b(?:\.\w+)?\s*[\[(]\s*['\"]([A-Za-z_]\w*)['\"](?!\s*\]\s*=(?!=))"
)
_FILE = re.compile(r"""(?P<quote>['"])(?!sqlite:)(?P<path>[^'"{}\s]*\.(?:sqlite3?|db3?))(?P=quote)""")
_URL = re.compile(r"""(?P<quote>['"])(?P<url>(?P<scheme>sqlite(?:\+\w+)?):///[^'"{}\s]*)(?P=quote)""")
_OPENS = re.compile(r"connect|[Dd]atabase|DATABASE|DB|PATH|NAME|\bdb")
_SECRET = re.compile(
    r"""^(?P<left>[\w.\[\]'"]*secret_?key(?:['"]\])?\s*=\s*)(?P<right>\S.*)$""", re.ASCII | re.IGNORECASE
)


def requirement(facts: Facts, name: str) -> Hit | None:
    """Find a dependency in requirements.txt, pyproject.toml or Pipfile."""
    named = re.escape(name)
    pattern = rf"(?i)(?:^\s*|['\"]){named}(?:\[[^\]]{{0,100}}\])?\s*(?:$|[<>=~!;,'\"@#])"
    return facts.find(pattern, *MANIFESTS)


def reads(text: str) -> str | None:
    """Return the variable of the environment that a line reads."""
    found = _READS.search(text)
    return found[1] if found else None


def plan(facts: Facts) -> Plan | None:
    app = _app(facts)
    if app is None:
        return None
    kind, hit, name = app
    path = hit.file.removeprefix("src/") if facts.has("pyproject.toml") else hit.file  # installed from there, or not
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    target, asgi = f"{escaped(module)}:{name}", kind.lower() in ASGI
    databases, changes = _databases(facts)
    secrets = list(_secrets(facts))
    changes = [*(one for _, one in secrets if one), *changes]
    return Plan(
        stack=f"{kind} ({'ASGI' if asgi else 'WSGI'})",
        seen=(str(hit),),
        command=server(target, asgi=asgi),
        before_start=tuple(_migrations(facts)),
        env=(
            *([] if asgi else [Variable("SCRIPT_NAME", "{prefix}", "gunicorn reads it: links begin with it")]),
            *(Variable(name, "{secret}", "sessions of a tenant are valid at no other") for name, _ in secrets[:1]),
            *databases.variables(),
        ),
        databases=databases.databases(),
        strip_prefix=asgi,
        changes=(*changes, *imports(facts, changes), *needs(facts, asgi=asgi)),
        image=image(facts),
    )


def server(target: str, *, asgi: bool) -> tuple[str, ...]:
    if asgi:  # uvicorn puts the root path before the path, so the prefix must not be there already
        return ("uvicorn", target, "--host", "127.0.0.1", "--port", "{port}", "--root-path", "{prefix}")
    return ("gunicorn", target, "--bind", "127.0.0.1:{port}", "--threads", "4")


def needs(facts: Facts, *, asgi: bool) -> Iterator[Change]:
    """Add the server to the requirements."""
    name = "uvicorn" if asgi else "gunicorn"
    file = facts.has(*MANIFESTS) or MANIFESTS[0]
    bundled = asgi and facts.find(r"fastapi\[(?:standard|all)\]", *MANIFESTS)
    if not bundled and requirement(facts, name) is None:
        yield Change(file, name, "the server of the app, and install it")


def imports(facts: Facts, changes: list[Change]) -> Iterator[Change]:
    """Add ``import os`` where a new line needs it."""
    for file in unique(one.file for one in changes if "os." in one.new):
        if file.endswith(".py") and facts.find(r"^\s*import\s+(?:[\w, ]+,\s*)?os\b", file) is None:
            at = facts.find(r"^(?:import\s+[\w., ]+|from\s+(?!__future__)[\w.]+\s+import\s+[\w*][^(\\]*)$", file)
            yield Change(file, "import os", "for the new lines", at.line if at else 1)


def _app(facts: Facts) -> tuple[str, Hit, str] | None:
    """Return the framework, where the app is made, and what it is called in its module."""
    names = {_FACTORY_OF.get(one, one).lower() for one in (*ASGI, *WSGI) if requirement(facts, one)}
    for hit in facts.hits(_FACTORIES, *facts.ending(".py")):
        if hit.match[2].lower() in names or (not names and hit.match[2] != "App"):
            return hit.match[2], hit, hit.match[1]
    made = facts.find(r"^def (create_app|make_app)\((?:\w+\s*(?::[^=,]+)?=[^,)]*,?\s*)*\)", *facts.ending(".py"))
    if made is not None and "flask" in names:
        return "Flask", made, f"{made.match[1]}()"
    return None


def _secrets(facts: Facts) -> Iterator[tuple[str, Change | None]]:
    """Yield the variable with the secret of sessions, and the change that reads it from the environment."""
    for hit in facts.hits(_SECRET, *facts.ending(".py")):
        if known := reads(hit.match["right"]):
            yield known, None
        elif re.match(r"[rbf]?['\"]", hit.match["right"]):
            yield "SECRET_KEY", change(hit, f'{hit.match["left"]}os.environ["SECRET_KEY"]', "a secret for each tenant")


def _databases(facts: Facts) -> tuple[SqliteFiles, list[Change]]:
    """Find the paths and URLs of SQLite that the modules have."""
    files, changes = SqliteFiles(), []
    for hit in facts.hits(r"['\"]", *_sources(facts)):
        url, path = _URL.search(hit.text), _FILE.search(hit.text)
        found = url or path
        known = reads(hit.text[: found.start()].rpartition(";")[2]) if found else None  # as in: getenv("DB", "app.db")
        if url is not None:
            written = url[0]
            name = files.variable(url["url"], hit, known=known, kind="URL", scheme=f"{url['scheme']}:///")
        elif path is not None and _OPENS.search(hit.text):
            written = path[0]
            name = files.variable(path["path"], hit, known=known)
        else:
            continue
        if known is None:
            new = hit.text.replace(written, f'os.environ.get("{name}", {written})', 1)
            changes.append(change(hit, new, "each tenant has its own database"))
    return files, changes


def _sources(facts: Facts) -> list[str]:
    return [
        file for file in facts.ending(".py") if not re.search(r"(?:^|/)(?:tests?|migrations|versions)(?:/|_|$)", file)
    ]


def _migrations(facts: Facts) -> Iterator[tuple[str, ...]]:
    if requirement(facts, "flask-migrate") and "migrations" in facts.folders:
        yield ("flask", "db", "upgrade")
    elif facts.has("alembic.ini"):
        yield ("alembic", "upgrade", "head")


def image(facts: Facts, build: tuple[str, ...] = ()) -> Image:
    found = facts.has(*MANIFESTS)
    install = "RUN pip install --no-cache-dir -r requirements.txt"
    if found == "pyproject.toml":
        install = "RUN pip install --no-cache-dir ."
    elif found == "Pipfile":
        install = "RUN pip install --no-cache-dir pipenv && pipenv install --system --deploy"
    copied = tuple(file for file in (found, "Pipfile.lock" if found == "Pipfile" else None) if file and facts.has(file))
    return Image(base="python:3.12-slim-bookworm", manifests=copied, install=(install,), build=build)
