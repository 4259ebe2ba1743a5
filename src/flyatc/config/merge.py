"""Merge the three layers of an app's settings, app: → user → tenant, checking each. Pure."""

from collections import Counter
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec import UNSET, Struct, structs

from flyatc.auth import htpasswd
from flyatc.config import database_names, name_rules, placeholders, programs
from flyatc.config.errors import Faults, Key
from flyatc.config.schema import App
from flyatc.config.schema_file import AppOverrides
from flyatc.config.schema_sections import Auth, Delivery, DeliveryOverrides

_LARGEST_PAGE = 1024 * 1024
_MERGED = ("env", "pages", "delivery")  # key by key; all other settings replace

Layer = App | AppOverrides


class Disk(Protocol):
    def is_directory(self, path: Path) -> bool: ...

    def readable_size(self, path: Path) -> int | None:
        """Return the size of a file, or None if it is not a readable file."""

    def text(self, path: Path, most: int) -> str | None:
        """Return the text of a file, or None if it is not a readable file of at most ``most`` bytes."""

    def runs(self, path: Path) -> bool:
        """Return whether this is a file that may be executed."""


class Context(Struct, frozen=True):
    """Context for checking a layer."""

    folder: Path  # of the configuration file: the base of relative paths
    environ: Mapping[str, str]
    disk: Disk
    faults: Faults
    variables: Container[str]  # those that ${NAME} may name
    thorough: bool = False  # for flyatc check: also the faults of config.programs

    def absolute(self, path: str) -> str:
        return str(self.folder / path)


Check = Callable[[Any, Key, Context], object]


def lay(app: App, layer: Layer | None, key: Key, context: Context) -> App:
    """Return ``app`` overridden by ``layer``, paths absolute. Faults of the layer itself are reported."""
    if layer is None:
        return app
    changes: dict[str, Any] = {}
    for name in App.__struct_fields__:
        value = getattr(layer, name)
        if value is UNSET:
            continue
        check = _CHECKS.get(name)
        value = check(value, (*key, name), context) if check else value
        changes[name] = _merged(getattr(app, name), value) if name in _MERGED else value
    return structs.replace(app, **changes) if changes else app


def _merged(below: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return below | value
    made = {name: section for name in value.__struct_fields__ if (section := getattr(value, name)) is not UNSET}
    return structs.replace(below, **made)


def check_whole(app: App, layers: list[tuple[Key, Layer | None]], context: Context) -> None:
    """Check the complete settings of a tenant. A fault is reported at the layer that set the value last."""
    command = _last("command", layers)
    if not app.command and not context.faults.reported(command):
        context.faults.add(command, "is missing: write the program and its arguments, such as [python3, app.py]")
    files = _last("files", layers)
    if (fault := _files_with_databases(app)) and not context.faults.reported(files):
        context.faults.add(files, fault)
    if context.thorough:
        for found, fault in programs.faults(app, context.environ.get("PATH", ""), context.disk.runs):
            where = (*_last(str(found[0]), layers, found[1:]), *found[1:])
            if not context.faults.reported(where):
                context.faults.add(where, fault)
    if app.seed is None:
        return
    seed = _last("seed", layers)
    fault = _seed_without_target(app) or _seed_of_another_kind(app, context)
    if fault and not context.faults.reported(_last("databases", layers)) and not context.faults.reported(seed):
        context.faults.add(seed, fault)


def _last(name: str, layers: list[tuple[Key, Layer | None]], entry: Key = ()) -> Key:
    """Return the key of the layer that set this last. ``entry``: of a setting that is merged key by key."""
    made = [key for key, layer in layers if layer is not None and getattr(layer, name) is not UNSET]
    if name in _MERGED:
        made = [key for key, layer in layers if key in made and entry[0] in getattr(layer, name)]
    return (*(made[-1] if made else ("app",)), name)


def _files_with_databases(app: App) -> str | None:
    for folder in app.files:
        for database in app.databases:
            if name_rules.within(database, folder):
                return f"{folder!r} has the database {database!r} in it: the files need a folder of their own"
            if name_rules.within(folder, database):
                return f"{folder!r} cannot be a folder: {database!r} is a database"
    return None


def _seed_without_target(app: App) -> str | None:
    names, _ = database_names.split(app.databases)
    if isinstance(app.seed, str):
        if len(names) == 1:
            return None
        count = "no database is" if not names else f"{len(names)} databases are"
        return f"is one path, but {count} listed: write database: path for each"
    unknown = [name for name in app.seed or {} if name not in (*names, *app.files)]
    if not unknown:
        return None
    kinds = "databases or files" if app.files else "databases"
    return f"{unknown[0]!r} is not one of {kinds}: {', '.join([*names, *app.files]) or 'none is listed'}"


def _seed_of_another_kind(app: App, context: Context) -> str | None:
    for name, template in app.seed.items() if isinstance(app.seed, dict) else ():
        path = placeholders.literal(template)
        if path is not None and context.disk.is_directory(Path(path)) is not (name in app.files):
            kinds = "is a folder of files, and its seed is not" if name in app.files else "is a database, its seed not"
            return f"{name!r} {kinds}: {path}"
    return None


def _command(command: list[str], key: Key, context: Context) -> list[str]:
    for index, argument in enumerate(command):
        _check_placeholders(argument, (*key, index), context)
    if command and not command[0].strip():
        context.faults.add((*key, 0), "is empty: it must be the program")
    return command


def _before_start(before: list[str | list[str]], key: Key, context: Context) -> list[str | list[str]]:
    """Return the commands as lists of words: one command may be written without the outer list."""
    words = [one for one in before if isinstance(one, str)]
    if words and len(words) < len(before):
        context.faults.add(key, "is one command, [bin/rails, db:migrate], or a list of commands: not both in one list")
        return []
    commands = [words] if words else [one for one in before if isinstance(one, list)]
    for index, command in enumerate(commands):
        place = key if words else (*key, index)
        if not command:
            context.faults.add(place, "is empty: write the program and its arguments")
        _command(command, place, context)
    return list(commands)


def _env(env: dict[str, str | None], key: Key, context: Context) -> dict[str, str | None]:
    for name, value in env.items():
        if fault := name_rules.variable(name):
            context.faults.add((*key, name), fault)
        if value is not None:
            _check_placeholders(value, (*key, name), context, secrets=True)
            _check_secret(value, context)
    return env


def _check_secret(value: str, context: Context) -> None:
    given = context.environ.get(placeholders.SECRET_VARIABLE)
    if given and len(given) < placeholders.SHORTEST_SECRET and placeholders.has_secret(value):
        context.faults.add_environment(
            placeholders.SECRET_VARIABLE,
            f"is shorter than {placeholders.SHORTEST_SECRET} characters: an app could guess it by its {{secret}}. "
            "openssl rand -hex 32 makes one",
        )


def _ready(ready: str | None, key: Key, context: Context) -> str | None:
    if ready is not None:
        _check_placeholders(ready, key, context)
        path = ready.startswith(("/", "{prefix}")) and ready.isprintable() and " " not in ready
        if not path and not context.faults.reported(key):
            context.faults.add(key, f"{ready!r} must be a path: begin with '/' or '{{prefix}}', and have no blanks")
    return ready


def _ready_host(host: str, key: Key, context: Context) -> str:
    _check_placeholders(host, key, context)
    literal = placeholders.literal(host)
    if literal is not None and (fault := name_rules.host(literal)) and not context.faults.reported(key):
        context.faults.add(key, fault)
    return host


def settled(app: App) -> App:
    """Return the complete settings of a tenant, each thing said in one way: with ``strip_prefix`` the app knows no
    prefix, so that ``ready`` is below it, written as /up or as {prefix}/up."""
    if not app.strip_prefix or app.ready is None or not app.ready.startswith("{prefix}"):
        return app
    below = app.ready.removeprefix("{prefix}")
    return structs.replace(app, ready=below if below.startswith("/") else f"/{below}")


def _directory(directory: str, key: Key, context: Context) -> str:
    absolute = context.absolute(directory)
    if not context.disk.is_directory(Path(absolute)):
        context.faults.add(key, f"{absolute} is not a directory")
    return absolute


def _idle_counts(counts: list[str], key: Key, context: Context) -> list[str]:
    if "requests" not in counts and not context.faults.reported(key):
        context.faults.add(key, f"requests always count: write [{', '.join(['requests', *counts])}]")
    return counts


def _writable(folders: list[str], key: Key, context: Context) -> list[str]:
    """Check the folders; they stay relative, since another layer may change the app's directory."""
    for index, folder in enumerate(folders):
        if not folder or not folder.isprintable() or ".." in folder.split("/"):
            context.faults.add((*key, index), f"{folder!r} must be a folder, such as tmp, without '..'")
    return folders


def _databases(databases: list[str], key: Key, context: Context) -> list[str]:
    counts = Counter(databases)
    for index, name in enumerate(databases):
        if fault := name_rules.database(name):
            context.faults.add((*key, index), fault)
        elif counts[name] > 1 and databases.index(name) < index:
            context.faults.add((*key, index), f"{name!r} is listed twice")
        elif any(other.startswith(f"{name}/") for other in databases):
            context.faults.add((*key, index), f"{name!r} cannot be a database and the folder of another")
    return databases


def _files(files: list[str], key: Key, context: Context) -> list[str]:
    """Return the folders without slashes at their ends."""
    plain = [name.rstrip("/") or name for name in files]
    for index, name in enumerate(plain):
        if fault := name_rules.folder(name):
            context.faults.add((*key, index), fault)
        elif around := [other for other in plain[:index] if name_rules.within(name, other)]:
            same = around[0] == name
            context.faults.add((*key, index), f"{name!r} is listed twice" if same else f"{name!r} is in {around[0]!r}")
        elif inside := [other for other in plain[:index] if name_rules.within(other, name)]:
            context.faults.add((*key, index), f"{inside[0]!r} is in {name!r}")
    return plain


def _seed(seed: str | dict[str, str] | None, key: Key, context: Context) -> str | dict[str, str] | None:
    if isinstance(seed, str):
        return _seed_file(seed, key, context)
    if seed is None:
        return None
    return {name: _seed_file(path, (*key, name), context, folder=True) for name, path in seed.items()}


def _seed_file(path: str, key: Key, context: Context, *, folder: bool = False) -> str:
    """Return the absolute path, still a template: it is expanded when the seed is needed. ``folder``: it may be one."""
    _check_placeholders(path, key, context)
    file = placeholders.literal(path)
    if file is not None and folder and context.disk.is_directory(Path(context.absolute(file))):
        return _template(path, context)
    if file is not None and context.disk.readable_size(Path(context.absolute(file))) is None:
        context.faults.add(key, f"{context.absolute(file)} is not a file that can be read")
    return _template(path, context)


def _template(path: str, context: Context) -> str:
    """Return the absolute path, with its placeholders."""
    if path.startswith(("/", "{data}", "${")):
        return path
    return placeholders.escape(str(context.folder)).rstrip("/") + "/" + path


def _delivery(delivery: Delivery | DeliveryOverrides, key: Key, context: Context) -> Delivery | DeliveryOverrides:
    """Make the roots absolute templates. Static folders stay relative: another layer may change the app's directory."""
    sendfile = delivery.sendfile
    if sendfile is UNSET or not sendfile.roots:
        return delivery
    for index, root in enumerate(sendfile.roots):
        _check_placeholders(root, (*key, "sendfile", "roots", index), context)
    roots = [_template(root, context) for root in sendfile.roots]
    return structs.replace(delivery, sendfile=structs.replace(sendfile, roots=roots))


def _pages(pages: dict[str, str], key: Key, context: Context) -> dict[str, str]:
    for name, path in pages.items():
        if fault := name_rules.page(name):
            context.faults.add((*key, name), fault)
        size = context.disk.readable_size(Path(context.absolute(path)))
        if size is None:
            context.faults.add((*key, name), f"{context.absolute(path)} is not a file that can be read")
        elif size > _LARGEST_PAGE:
            context.faults.add((*key, name), f"{context.absolute(path)} is larger than 1 MB")
    return {name: context.absolute(path) for name, path in pages.items()}


def _check_placeholders(text: str, key: Key, context: Context, *, secrets: bool = False) -> None:
    if "{" in text or "}" in text:
        for fault in placeholders.faults(text, context.variables, secrets=secrets):
            context.faults.add(key, fault)


def _auth(auth: Auth | None, key: Key, context: Context) -> Auth | None:
    """Check realm, public paths and passwords; make the path of a file absolute."""
    if auth is None:
        return None
    if not auth.realm.isprintable() or '"' in auth.realm or "\\" in auth.realm:
        context.faults.add((*key, "realm"), "must be plain text without quotation marks and backslashes")
    for index, path in enumerate(auth.public):
        if fault := name_rules.public_path(path):
            context.faults.add((*key, "public", index), fault)
    if not isinstance(auth.users, str):
        found, faults = htpasswd.parse(auth.users)
        for index, fault in faults:
            context.faults.add((*key, "users", index), fault)
        if not found and not faults:
            context.faults.add((*key, "users"), "is empty: there is no login")
        return auth
    file = context.absolute(auth.users)
    text = context.disk.text(Path(file), htpasswd.LONGEST)
    if text is None:
        context.faults.add((*key, "users"), f"{file} is not a file of at most 1 MB that can be read")
    for index, fault in htpasswd.parse((text or "").splitlines())[1]:
        context.faults.add((*key, "users"), f"{file}, line {index + 1}: {fault}")
    return structs.replace(auth, users=file)


_CHECKS: dict[str, Check] = {
    "command": _command,
    "before_start": _before_start,
    "env": _env,
    "ready": _ready,
    "ready_host": _ready_host,
    "directory": _directory,
    "idle_counts": _idle_counts,
    "auth": _auth,
    "databases": _databases,
    "files": _files,
    "writable": _writable,
    "seed": _seed,
    "pages": _pages,
    "delivery": _delivery,
}
