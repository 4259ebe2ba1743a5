"""The SQLite library or ORM of a Node app, and where its database's path is written."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flyatc.admin.init.facts import Facts
from flyatc.admin.init.plan import Change, change
from flyatc.admin.init.sqlite_files import SqliteFiles

LIBRARIES = {
    "better-sqlite3": "better-sqlite3",
    "sqlite3": "sqlite3",
    "sequelize": "Sequelize",
    "typeorm": "TypeORM",
    "@prisma/client": "Prisma",
    "knex": "Knex",
    "drizzle-orm": "Drizzle",
    "@libsql/client": "libSQL",
}
OWN = "each tenant has its own database"
_LITERAL = r"(['\"`])(?:\$\{__dirname\}/)?([^'\"`{}\s]*\.(?:sqlite3?|db3?))\1"
_NAMED = re.compile(_LITERAL)
# the whole expression that makes the path: path.join(__dirname, "x.db"), __dirname + "/x.db"
_EXPRESSION = re.compile(
    rf"(?:path\.)?(?:join|resolve)\([^()'\"`]*{_LITERAL}\)|__dirname\s*\+\s*{_LITERAL.replace('1', '3')}"
)
_ENV = re.compile(r"(?a)process\.env(?:\.([A-Za-z_]\w*)|\[['\"]([A-Za-z_]\w*)['\"]\])")
_SCHEMA = "prisma/schema.prisma"


@dataclass
class Found:
    libraries: tuple[str, ...] = ()
    files: SqliteFiles = field(default_factory=SqliteFiles)
    changes: list[Change] = field(default_factory=list)
    migrations: tuple[tuple[str, ...], ...] = ()


def look(facts: Facts, wanted: Mapping[str, object], sources: list[str]) -> Found:
    found = Found(tuple(label for name, label in LIBRARIES.items() if name in wanted))
    if facts.find(r"['\"]node:sqlite['\"]", *sources):
        found.libraries += ("node:sqlite",)
    _prisma(facts, found)
    _sequelize(facts, found)
    _sources(facts, found, sources)
    found.migrations = tuple(_migrations(facts, wanted))
    return found


def with_variable(text: str, name: str) -> str | None:
    """Return the line with the path of its database from the environment, by default the path that it has; None: there
    is none."""
    found = _EXPRESSION.search(text) or _NAMED.search(text)
    if found is None:
        return None
    new = f"process.env.{name} || {found[0]}"
    alone = re.search(r"(?:^|[(=:,])\s*$", text[: found.start()]) and re.match(
        r"\s*(?:$|[),;}\]])", text[found.end() :]
    )
    if not alone:  # || and ?? do not mix without parentheses
        new = f"({new})"
    return text[: found.start()] + new + text[found.end() :]


def _sources(facts: Facts, found: Found, sources: list[str]) -> None:
    for hit in facts.hits(_NAMED, *sources):
        written = hit.match[2]
        scheme = "file:" if written.startswith("file:") else ""
        env = _ENV.search(hit.text.partition(written)[0].rpartition(";")[2])  # as in: process.env.DB || 'app.db'
        known = (env[1] or env[2]) if env else None
        name = found.files.variable(written, hit, known=known, kind="URL" if scheme else "PATH", scheme=scheme)
        if known is None and (new := with_variable(hit.text, name)):
            found.changes.append(change(hit, new, OWN))


def _prisma(facts: Facts, found: Found) -> None:
    if facts.find(r"provider\s*=\s*['\"]sqlite['\"]", _SCHEMA) is None:
        return
    hit = facts.find(r"^\s*url\s*=\s*(?:env\(\s*['\"](\w+)['\"]\s*\)|(['\"]file:[^'\"]*['\"]))", _SCHEMA)
    if hit is None:
        return
    found.files.variable("app", hit, known=hit.match[1] or "DATABASE_URL", scheme="file:")
    if hit.match[1] is None:
        found.changes.append(change(hit, 'url = env("DATABASE_URL")', OWN))


def _sequelize(facts: Facts, found: Found) -> None:
    """config/config.json of sequelize-cli: of the environment production; JSON cannot read the environment."""
    for file in ("config/config.json", "server/config/config.json"):
        at = facts.find(r"\"production\"\s*:", file)
        for hit in facts.hits(r"\"storage\"\s*:\s*\"[^\"]*\"", file):
            if at is not None and hit.line > at.line:
                new = hit.text.replace(hit.match[0], '"use_env_variable": "DATABASE_URL"', 1)
                found.files.variable("app", hit, known="DATABASE_URL", scheme="sqlite:")
                found.changes.append(change(hit, new, OWN))
                return
        if use := facts.find(r"\"use_env_variable\"\s*:\s*\"(\w+)\"", file):
            found.files.variable("app", use, known=use.match[1], scheme="sqlite:")


def _migrations(facts: Facts, wanted: Mapping[str, object]) -> Iterator[tuple[str, ...]]:
    if facts.has(_SCHEMA):
        yield (
            ("npx", "prisma", "migrate", "deploy")
            if "prisma/migrations" in facts.folders
            else ("npx", "prisma", "db", "push")
        )
    if "sequelize-cli" in wanted:
        yield "npx", "sequelize-cli", "db:migrate"
    if "knex" in wanted and facts.has("knexfile.js", "knexfile.cjs", "knexfile.mjs", "knexfile.ts"):
        yield "npx", "knex", "migrate:latest"
    source = facts.find(r"new\s+DataSource\(", *facts.ending(".js"))
    if "typeorm" in wanted and source and facts.find(r"migrations\s*:\s*\[\s*[^\]\s]", source.file):
        yield "npx", "typeorm", "migration:run", "-d", source.file
    if "drizzle-kit" in wanted and facts.has("drizzle.config.ts", "drizzle.config.js"):
        yield "npx", "drizzle-kit", "migrate"
