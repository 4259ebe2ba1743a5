"""Laravel, and PHP without a framework, both on PHP's own server."""

import re
from collections.abc import Iterator

from flyatc.admin.init.facts import Facts, app_name, mapping, words
from flyatc.admin.init.plan import Change, Image, Plan, Static, Variable, change
from flyatc.admin.init.sqlite_files import FIRST as FILE
from flyatc.admin.init.sqlite_files import SqliteFiles

FLAT = (
    "{}: the pages are in the app's folder, so PHP also sends tenants.yaml and all other files there to clients. "
    "Better move the pages into public/, and run flyatc init again"
)
OWN = "each tenant has its own database"
_LITERAL = r"(?:__DIR__\s*\.\s*)?(['\"])(sqlite:)?([^'\"{}$\s]*\.(?:sqlite3?|db3?))\1"
_NAMED = re.compile(_LITERAL)
_DESTINATION = re.compile(
    r"""move_uploaded_file\([^;]{0,80}?,\s*(?P<known>\(?getenv\('UPLOADS'\) \?: )?"""
    r"""(?P<value>(?:__DIR__\s*\.\s*)?(?P<quote>['"])[\w./-]+(?P=quote))"""
)
SESSIONS = "{data}/sessions"  # Laravel does not create it
_FOLDERS = (  # of Laravel's configuration: all tenants would share them
    (
        "config/cache.php",
        r"'path'\s*=>\s*(env\('\w+', )?(storage_path\('framework/cache/data'\))",
        "CACHE_PATH",
        "cache",
    ),
    (
        "config/session.php",
        r"'files'\s*=>\s*(env\('\w+', )?(storage_path\('framework/sessions'\))",
        "SESSION_FILES",
        "sessions",
    ),
    (
        "config/filesystems.php",
        r"'root'\s*=>\s*(env\('\w+', )?(storage_path\('app(?:/private)?'\))",
        "UPLOADS",
        "uploads",
    ),
)


def laravel(facts: Facts) -> Plan | None:
    version = mapping(facts.object("composer.json").get("require")).get("laravel/framework")
    return None if version is None or facts.has("artisan") is None else _laravel(facts, words(version))


def _laravel(facts: Facts, version: str) -> Plan:
    number = re.search(r"\d+", version)
    folders = list(_folders(facts))
    return Plan(
        stack=f"Laravel {number[0]}" if number else "Laravel",
        seen=("composer.json", "artisan"),
        command=("php", "-S", "127.0.0.1:{port}", "-t", "public"),
        listens="PHP's own server",
        before_start=(
            *([("mkdir", "-p", SESSIONS)] if any(one.value == SESSIONS for one, _ in folders) else []),
            ("touch", f"{{data}}/{FILE}"),
            ("php", "artisan", "migrate", "--force"),
        ),
        env=(
            Variable("APP_ENV", "production"),
            Variable("APP_DEBUG", "false"),
            Variable("APP_KEY", "base64:{secret.base64}", "sessions of a tenant are valid at no other"),
            Variable("APP_URL", "http://localhost:3000{prefix}", "for links in e-mails; then your own host"),
            Variable("DB_CONNECTION", "sqlite"),
            Variable("DB_DATABASE", f"{{data}}/{FILE}"),
            *(variable for variable, _ in folders),
            Variable("VIEW_COMPILED_PATH", "{data}/views", "no tenant runs what another has compiled"),
            Variable("LOG_CHANNEL", "stderr", "into flyatc's log"),
            Variable("PHP_CLI_SERVER_WORKERS", "4", "requests at once"),
        ),
        databases=(FILE,),
        files=("uploads",) if facts.has("config/filesystems.php") else (),
        strip_prefix=True,
        writable=("storage", "bootstrap/cache"),
        static=(Static("/build", "public/build", digests=True),)
        if facts.has("vite.config.js", "vite.config.ts")
        else (),
        changes=(*(one for _, one in folders if one), *_proxies(facts, int(number[0]) if number else None)),
        steps=("npm install && npm run build",) if facts.has("vite.config.js", "vite.config.ts") else (),
        warnings=tuple(_warnings(facts)),
        image=_image(facts, writable=True),
    )


def _folders(facts: Facts) -> Iterator[tuple[Variable, Change | None]]:
    for file, pattern, name, folder in _FOLDERS:
        hit = facts.find(pattern, file)
        if hit is not None:
            variable = Variable(name, f"{{data}}/{folder}", f"see {hit.file}")
            new = hit.text.replace(hit.match[2], f"env('{name}', {hit.match[2]})")
            yield variable, None if hit.match[1] else change(hit, new, "tenants must not share it")


def _proxies(facts: Facts, version: int | None) -> Iterator[Change]:
    """Have Laravel put X-Forwarded-Prefix before its links: it must trust the proxy for that."""
    middleware = "app/Http/Middleware/TrustProxies.php"
    why = "links get the prefix of the tenant, by X-Forwarded-Prefix"
    if hit := facts.find(r"protected\s+\$proxies\s*;", middleware):
        yield change(hit, "protected $proxies = '127.0.0.1';", why)
    at = facts.find(r"protected\s+\$proxies\b", middleware)
    if at and version is not None and version < 9 and facts.find("getTrustedHeaderNames", middleware) is None:
        new = "protected function getTrustedHeaderNames() { return $this->headers; }"
        yield Change(middleware, new, "Laravel 8 trusts a fixed list of headers otherwise", at.line)
    known = facts.find("HEADER_X_FORWARDED_PREFIX", middleware)
    if (hit := facts.find(r"HEADER_X_FORWARDED_PROTO\b", middleware)) and known is None:
        new = "HEADER_X_FORWARDED_PROTO | Request::HEADER_X_FORWARDED_PREFIX"
        yield change(hit, hit.text.replace("HEADER_X_FORWARDED_PROTO", new), why)
    hit = facts.find(r"->withMiddleware\(function\s*\((?:Middleware )?\$middleware\)", "bootstrap/app.php")
    if hit is not None and facts.find("trustProxies", "bootstrap/app.php") is None:
        yield Change("bootstrap/app.php", "$middleware->trustProxies(at: '127.0.0.1');", why, hit.line)


def plain(facts: Facts) -> Plan | None:
    index = facts.has("public/index.php", "web/index.php", "index.php")
    if index is None:
        return None
    folder = index.rpartition("/")[0] or "."
    sources = [file for file in facts.ending(".php") if not file.startswith(("vendor/", "tests/"))]
    databases, changes = _databases(facts, sources)
    uploads, uploaded = _uploads(facts, sources)
    return Plan(
        stack="PHP",
        seen=(index,),
        command=("php", "-d", "session.save_path={data}", "-S", "127.0.0.1:{port}", "-t", folder),
        listens="PHP's own server; sessions in {data}",
        env=(
            *databases.variables(),
            *uploads,
            Variable("PHP_CLI_SERVER_WORKERS", "4", "requests at once"),
        ),
        databases=databases.databases(),
        files=("uploads",) if uploads else (),
        strip_prefix=True,
        outside=app_name(facts.name) if folder == "." else None,
        changes=(*changes, *uploaded),
        warnings=(*_warnings(facts), *([FLAT.format(index)] if folder == "." else [])),
        image=_image(facts),
    )


def _databases(facts: Facts, sources: list[str]) -> tuple[SqliteFiles, list[Change]]:
    files, changes = SqliteFiles(), []
    for hit in facts.hits(_NAMED, *sources):
        literal, quote, scheme, path = hit.match[0], hit.match[1], hit.match[2], hit.match[3]
        statement = hit.text.partition(literal)[0].rpartition(";")[2]  # as in: getenv('DB') ?: 'app.db'
        env = re.search(r"(?a)(?:getenv\(|\$_(?:ENV|SERVER)\[)\s*['\"]([A-Za-z_]\w*)['\"]", statement)
        name = files.variable(path, hit, known=env[1] if env else None)
        if env is None:
            default = f"{quote}{path}{quote}" if scheme else literal
            new = f"(getenv('{name}') ?: {default})"
            changes.append(change(hit, hit.text.replace(literal, f"'sqlite:' . {new}" if scheme else new, 1), OWN))
    return files, changes


def _uploads(facts: Facts, sources: list[str]) -> tuple[list[Variable], list[Change]]:
    hits = list(facts.hits(_DESTINATION, *sources))
    known = facts.find(r"getenv\('UPLOADS'\)", *sources)
    return [Variable("UPLOADS", "{data}/uploads")] if hits or known else [], [
        change(
            hit,
            hit.text.replace(hit.match["value"], f"(getenv('UPLOADS') ?: {hit.match['value']})", 1),
            "each tenant has its own uploads",
        )
        for hit in hits
        if hit.match["known"] is None
    ]


def _warnings(facts: Facts) -> Iterator[str]:
    if hit := facts.find(r"(?:mysql|pgsql):(?:host|dbname)", *facts.ending(".php")):
        yield f"{hit} connects to {hit.match[0].split(':')[0]}: flyatc saves SQLite only"
    if hit := facts.find(r"storage_path\('app/public'\)", "config/filesystems.php"):
        yield f"{hit}: the disk public is shared by all tenants, and not saved. Keep uploads on the disk local"
    if hit := facts.find(r"artisan (?:config:cache|optimize)\b", "Dockerfile", *facts.ending(".sh")):
        yield f"{hit} compiles the environment of the build into the app, for all tenants: remove it"


def _image(facts: Facts, *, writable: bool = False) -> Image:
    composer = facts.has("composer.json") is not None
    return Image(
        base="php:8.3-cli-bookworm",
        packages=("git", "unzip") if composer else (),
        manifests=tuple(file for file in ("composer.json", "composer.lock") if facts.has(file)),
        install=(
            "COPY --from=composer:2 /usr/bin/composer /usr/bin/composer",
            "RUN composer install --no-dev --no-scripts --no-autoloader",
        )
        if composer
        else (),
        build=("RUN composer dump-autoload --optimize",) if composer else (),
    )
