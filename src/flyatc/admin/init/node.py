"""Node: the command and the port from package.json and the entry file; sessions and uploads of Express."""

import re
import shlex
from collections.abc import Iterator

from flyatc.admin.init import node_databases
from flyatc.admin.init.facts import Facts, escaped, first, mapping, words
from flyatc.admin.init.plan import Change, Image, Plan, Variable, change

ENTRIES = (
    "server.js",
    "index.js",
    "app.js",
    "main.js",
    "server.mjs",
    "index.mjs",
    "app.mjs",
    "src/server.js",
    "src/index.js",
)
SUFFIXES = (".js", ".mjs", ".cjs", ".ts", ".mts", ".cts")
FRAMEWORKS = (
    "express",
    "fastify",
    "koa",
    "@hapi/hapi",
    "hono",
    "@nestjs/core",
    "next",
    "nuxt",
    "@remix-run/node",
    "astro",
)
_SHELL = re.compile(r"[|&;<>(){}$`\\*?~]|^\w+=")
_LISTENS = re.compile(r"\.listen\(\s*(?P<port>\d{2,5})\s*[,)]")
_LISTENS_OBJECT = re.compile(r"\.listen\(\s*\{[^}]{0,80}?\bport:\s*(?P<port>\d{2,5})\b")
_PORT = re.compile(
    r"^(?P<left>\s*(?:const|let|var)\s+\w{0,30}port\w{0,30}\s*=\s*)(?P<port>\d{2,5})\s*;?\s*$", re.ASCII | re.IGNORECASE
)
_LOCALHOST = re.compile(r"['\"]localhost['\"]")
_SECRET = re.compile(
    r"""(?a)\bsecret:\s*(?P<value>(?P<quote>['"])[^'"]*(?P=quote)|process\.env\.(?P<name>[A-Za-z_]\w*))"""
)
_DEST = re.compile(
    r"""(?a)\b(?:dest|destination|uploadDir):\s*(?:process\.env\.(?P<name>[A-Za-z_]\w*)\s*(?:\|\||\?\?)\s*)?"""
    r"""(?P<value>(?P<quote>['"])[\w./-]+(?P=quote))"""
)


def plan(facts: Facts) -> Plan | None:
    package = facts.object("package.json")
    if not package and facts.has("package.json", *ENTRIES) is None:
        return None
    wanted = {**mapping(package.get("devDependencies")), **mapping(package.get("dependencies"))}
    command = _command(facts, package)
    if command is None:
        return None
    sources = _sources(facts)
    found = node_databases.look(facts, wanted, sources)
    secrets, secret_changes = _secrets(facts, sources)
    uploads, uploaded = _uploads(facts, sources)
    stack = "".join(f", {name}" for name in FRAMEWORKS if name in wanted)
    return Plan(
        stack=f"Node{stack}{''.join(f', {name}' for name in found.libraries)}",
        seen=tuple(file for file in ("package.json", command[-1]) if facts.has(file)),
        command=command,
        before_start=found.migrations,
        env=(
            Variable("NODE_ENV", "production"),
            *found.files.variables(),
            *secrets,
            *uploads,
        ),
        databases=found.files.databases(),
        files=("uploads",) if uploads else (),
        strip_prefix=True,
        changes=(*_port(facts, sources), *found.changes, *secret_changes, *uploaded),
        steps=(("npx prisma generate",) if "@prisma/client" in wanted else ()),
        warnings=tuple(_warnings(facts, wanted)),
        image=_image(facts, package),
    )


def _sources(facts: Facts) -> list[str]:
    tests = re.compile(r"(?:^|/)(?:tests?|__tests__|spec|dist|build|public)/|\.(?:test|spec|d)\.\w+$|\.min\.")
    return [file for file in facts.ending(*SUFFIXES) if not tests.search(file)]


def _command(facts: Facts, package: dict[str, object]) -> tuple[str, ...] | None:
    """Return the words of scripts.start if it needs no shell, else npm start; without it the entry file."""
    start = words(mapping(package.get("scripts")).get("start"))
    if start:
        try:
            parts = shlex.split(start)
        except ValueError:
            parts = []
        if parts and parts[0] == "node" and not any(_SHELL.search(part) for part in parts):
            return tuple(parts)
        return "npm", "start"
    main = words(package.get("main")).removeprefix("./")
    entry = facts.has(*([main] if main else []), *ENTRIES)
    if entry is None and main and mapping(package.get("scripts")).get("build"):  # made by the build
        entry = main
    return None if entry is None else ("node", escaped(entry))


def _port(facts: Facts, sources: list[str]) -> Iterator[Change]:
    why = "flyatc chooses the port"
    for hit in facts.hits(r"\.listen\(|port", *sources):
        if "process.env" in hit.text:
            if ".listen(" in hit.text and _LOCALHOST.search(hit.text):
                yield change(hit, _LOCALHOST.sub('"127.0.0.1"', hit.text, count=1), "localhost may be IPv6 only")
            continue
        found = first_match(hit.text, _LISTENS, _LISTENS_OBJECT, _PORT)
        if found is not None:
            begin, end = found.span("port")
            new = f"{hit.text[:begin]}process.env.PORT || {found['port']}{hit.text[end:]}"
            yield change(hit, _LOCALHOST.sub('"127.0.0.1"', new, count=1), why)


def first_match(text: str, *patterns: re.Pattern[str]) -> re.Match[str] | None:
    return next((match for one in patterns if (match := one.search(text))), None)


def _secrets(facts: Facts, sources: list[str]) -> tuple[list[Variable], list[Change]]:
    variables: dict[str, Variable] = {}
    changes = []
    for hit in facts.hits(_SECRET, *sources):
        name = hit.match["name"] or "SESSION_SECRET"
        variables[name] = Variable(name, "{secret}", "sessions of a tenant are valid at no other")
        if hit.match["name"] is None:
            new = hit.text.replace(hit.match["value"], f"process.env.{name}", 1)
            changes.append(change(hit, new, "a secret for each tenant"))
    if not variables:
        variables["SESSION_SECRET"] = Variable("SESSION_SECRET", "{secret}", "for the app to sign sessions with")
    return list(variables.values()), changes


def _uploads(facts: Facts, sources: list[str]) -> tuple[list[Variable], list[Change]]:
    variables: dict[str, Variable] = {}
    changes = []
    for hit in facts.hits(_DEST, *sources):
        name = hit.match["name"] or "UPLOADS"
        variables[name] = Variable(name, "{data}/uploads")
        if hit.match["name"] is None:
            new = hit.text.replace(hit.match["value"], f"process.env.{name} || {hit.match['value']}", 1)
            changes.append(change(hit, new, "each tenant has its own uploads"))
    return list(variables.values()), changes


def _warnings(facts: Facts, wanted: dict[str, object]) -> Iterator[str]:
    if "next" in wanted:
        at = first(facts.find(r"basePath", "next.config.js", "next.config.mjs", "next.config.ts"))
        yield f"Next.js compiles its basePath in ({at or 'next.config.js'}): no prefix of each tenant"
    for name in ("pg", "mysql2", "mongodb", "mongoose"):
        if name in wanted:
            yield f"package.json has {name}: flyatc saves SQLite only"


def _image(facts: Facts, package: dict[str, object]) -> Image:
    locked = facts.has("package-lock.json") is not None
    build = bool(words(mapping(package.get("scripts")).get("build")))
    install = "RUN npm ci" if locked else "RUN npm install"
    return Image(
        base="node:22-bookworm-slim",
        packages=("build-essential",) if facts.find(r"better-sqlite3|\"sqlite3\"", "package.json") else (),
        manifests=tuple(file for file in ("package.json", "package-lock.json") if facts.has(file)),
        install=(install if build else f"{install} --omit=dev",) if facts.has("package.json") else (),
        build=("RUN npm run build",) if build else (),
    )
