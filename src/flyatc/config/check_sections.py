"""Check the sections server, storage, fly, replay and dashboard, and make their paths absolute. Pure.

The bucket results from ``s3://…`` and the environment together; its existence is not checked here.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct, structs

from flyatc.auth import htpasswd
from flyatc.config import name_rules
from flyatc.config.errors import Faults
from flyatc.config.merge import Context
from flyatc.config.schema import USER, USER_VARIABLE, Dashboard, Server, Storage
from flyatc.config.schema_sections import LEAST_REPLAY_CACHE, Fly, Listen, Replay

LOOPBACK = "127.0.0.1"
DEFAULT_URL = "file:./store"


def server(server: Server, context: Context) -> Server:
    """Return the section with ``data`` absolute, ``root`` without a trailing slash, the environment's variables
    applied, and a bare control port on loopback."""
    control = server.control
    if control is not None and control.host is None:
        control = Listen(LOOPBACK, control.port)
    listen = _listen_of_environment(server.listen, context)
    data = context.environ.get("FLYATC_DATA") or server.data
    if control is not None and control.port == listen.port != 0:
        context.faults.add(("server", "control"), f"is the port for clients too ({listen}): choose another")
    if (fault := _home_fault(data)) and data != server.data:
        context.faults.add_environment("FLYATC_DATA", fault)
    elif fault:
        context.faults.add(("server", "data"), fault)
    if fault := name_rules.root(server.root):
        context.faults.add(("server", "root"), fault)
    if server.health is not None and (fault := _health_fault(server.health)):
        context.faults.add(("server", "health"), fault)
    return structs.replace(
        server,
        listen=listen,
        control=control,
        root=server.root.rstrip("/") or "/",
        data=context.absolute(data),
    )


def _home_fault(folder: str) -> str | None:
    """Refuse a path that would become a folder named '~': it is made where it is missing, so nothing else would."""
    return f"{folder!r}: only a shell replaces ~: write the path of your home" if folder.startswith("~") else None


def fly(fly: Fly, context: Context) -> Fly:
    faults, resolver = context.faults, context.environ.get("FLYATC_RESOLVER")
    if resolver:
        try:
            fly = structs.replace(fly, resolver=Listen.parse(resolver))
        except ValueError as error:
            faults.add_environment("FLYATC_RESOLVER", str(error))
    if (
        key := context.environ.get("FLYATC_METADATA")
        or fly.metadata
        or (context.environ.get(USER_VARIABLE) and USER_VARIABLE.lower())
    ):
        fly = structs.replace(fly, metadata=key)
    if fly.metadata is not None and re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,62}", fly.metadata) is None:
        faults.add(("fly", "metadata"), f"{fly.metadata!r} cannot be looked up by DNS: a-z, 0-9, - and _, at most 63")
    if fly.resolver is not None and (fly.resolver.host is None or not _is_address(fly.resolver.host)):
        faults.add(("fly", "resolver"), f"{fly.resolver} names no server: write its address, such as [fdaa::3]:53")
    return fly


def replay(replay: Replay, context: Context) -> Replay:
    if 0 < replay.cache < LEAST_REPLAY_CACHE:
        context.faults.add(
            ("replay", "cache"), f"is less than {LEAST_REPLAY_CACHE} s, which Fly Proxy does not take: more, or 0"
        )
    return replay


INSECURE = "FLYATC_INSECURE"  # of the environment: as flyatc serve --insecure
SHORTEST_PASSWORD = 12  # characters
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def dashboard(
    given: Dashboard | None, server: Server, users: Iterable[str], others: Callable[[str], bool], context: Context
) -> Dashboard | None:
    """Return the section with its password, None for no dashboard. ``users``: listed by name; ``others``: whether the
    pattern of '*' matches a segment. Without a password the environment must permit it, for loopback only."""
    insecure = context.environ.get(INSECURE) == "1"
    if given is None and not insecure:
        return None
    found = given or Dashboard()
    if fault := _dashboard_path_fault(found.path, server, users, others):
        context.faults.add(("dashboard", "path"), fault)
    if found.host is not None and re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", found.host) is None:
        context.faults.add(("dashboard", "host"), f"{found.host!r} is no host name: write it as admin.example.com")
    if found.password is not None:
        return structs.replace(
            found, password=_password(found.password, context), host=found.host and found.host.lower()
        )
    if not insecure and INSECURE not in context.variables:
        context.faults.add(
            ("dashboard",),
            'needs a password: "${DASHBOARD_PASSWORD}", and that variable in the environment. Without one there is a '
            "dashboard only by flyatc serve --insecure, on loopback",
        )
    elif insecure and server.listen.host not in ("127.0.0.1", "::1", "localhost"):
        context.faults.add_environment(
            INSECURE, f"serves the dashboard without a password, on loopback only: set server.listen: "
            f"127.0.0.1:{server.listen.port}, or dashboard.password"
        )  # fmt: skip
    return structs.replace(found, host=None)


def _dashboard_path_fault(path: str, server: Server, users: Iterable[str], others: Callable[[str], bool]) -> str | None:
    if _PATH.fullmatch(path) is None or len(path) > 100:
        return f"{path[:100]!r} must be a plain path such as /_flyatc, without a slash at its end"
    if server.health is not None and name_rules.within(server.health, path):
        return f"{path} contains server.health, {server.health}: choose another"
    root = server.root.rstrip("/")
    if root and name_rules.within(root, path):
        return f"{path} contains server.root, below which are all users: choose another, such as /_flyatc"
    first = path.removeprefix(f"{root}/").partition("/")[0] if path.startswith(f"{root}/") else ""
    if first in users or (USER.fullmatch(first) and others(first)):
        return f"{path} is an address of the user {first}: choose another, such as /_flyatc"
    return None


def _password(given: str, context: Context) -> str:
    """Return the password or its hash, from the environment if it is a variable. No fault repeats it."""
    key, variable = ("dashboard", "password"), _VARIABLE.fullmatch(given)
    if variable is not None:
        name = variable[1]
        if name != "DASHBOARD_PASSWORD" and not name.startswith("FLYATC_"):
            context.faults.add(key, f"apps get ${name} too: name it DASHBOARD_PASSWORD, or FLYATC_…")
        given = context.environ.get(name, "")
        if not given:
            if name not in context.variables or name in context.environ:
                context.faults.add(
                    key, f"${name} is not set: export it where flyatc runs; on Fly, 'fly secrets set {name}=…' does"
                )
            return ""
    if given.startswith("$"):
        if fault := htpasswd.fault(given):
            context.faults.add(key, fault)
        elif given.startswith("$apr1$"):
            context.faults.add(key, "is hashed by apr1, which is too quick: htpasswd -nB NAME makes one with bcrypt")
    elif len(given) < SHORTEST_PASSWORD:
        context.faults.add(key, f"is shorter than {SHORTEST_PASSWORD} characters: openssl rand -hex 16 makes one")
    return given


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def storage(storage: Storage, data: str, context: Context) -> Storage:
    """Return the section with ``url`` as ``s3://…`` or ``file:/absolute``. ``data``: the absolute server.data."""
    storage = streaming(storage, context)
    if storage.key is not None:
        check_placeholders("key", storage.key, context.faults)
    url = storage.url or _url_of_environment(storage, context)
    if url.startswith(SCHEME):
        _check_bucket(storage, url, context)
        return structs.replace(storage, url=url)
    folder = _folder(url, context.faults)
    if folder is None:
        return storage
    if fault := _home_fault(folder):
        context.faults.add(("storage", "url"), fault)
    absolute = context.absolute(folder)
    if Path(absolute) == Path(data) or Path(absolute).is_relative_to(Path(data) / "tenants"):
        context.faults.add(("storage", "url"), "must not be where the running databases are (server.data)")
    return structs.replace(storage, url=f"file:{absolute}")


def _url_of_environment(storage: Storage, context: Context) -> str:
    name = context.environ.get(BUCKET_VARIABLE)
    return f"{SCHEME}{name}" if name and storage.mode != "none" else DEFAULT_URL


def _check_bucket(storage: Storage, url: str, context: Context) -> None:
    for fault in url_faults(url):
        if storage.url:
            context.faults.add(("storage", "url"), fault)
        else:
            context.faults.add_environment(
                BUCKET_VARIABLE, f"{context.environ[BUCKET_VARIABLE]!r} is not the name of a bucket"
            )
    if storage.mode != "none":
        for variable, fault in environment_faults(context.environ):
            context.faults.add_environment(variable, fault)


def _listen_of_environment(listen: Listen, context: Context) -> Listen:
    listen = Listen(context.environ.get("FLYATC_HOST") or listen.host, listen.port)
    text = context.environ.get("PORT")
    if text is None:
        return listen
    if re.fullmatch(r"[0-9]{1,5}", text) is None or int(text) > 65535:
        context.faults.add_environment("PORT", f"{text!r} is not a port: it must be a number up to 65535, or unset")
        return listen
    return Listen(listen.host, int(text))


def _health_fault(health: str) -> str | None:
    if re.fullmatch(r"/[!-~]*", health) is None or "?" in health or "#" in health:
        return f"{health!r} must be a path such as /up: begin with '/', and have no blanks, '?' or '#'"
    return None


def _folder(url: str, faults: Faults) -> str | None:
    scheme, colon, rest = url.partition(":")
    if not colon or scheme != "file":
        faults.add(("storage", "url"), f"{url!r} is not a store: write file:FOLDER or s3://BUCKET")
    elif not rest or (rest.startswith("//") and not rest.startswith("///")):
        faults.add(
            ("storage", "url"), f"{url!r} names no folder of this machine: write file:./store or file:/var/store"
        )
    else:
        return re.sub("^/+", "/", rest)
    return None


PLACEHOLDERS = ("user", "tenant", "database")
_FILE = "file:"


def streaming(storage: Storage, context: Context) -> Storage:
    """Return the section with ``litestream`` and a ``file:`` in ``replica`` absolute."""
    for name in ("litestream", "replica"):
        if getattr(storage, name) is not None and storage.mode != "litestream":
            context.faults.add(("storage", name), f"is for litestream mode: this is {storage.mode}")
    program, replica = storage.litestream, storage.replica
    if replica is not None:
        replica = _replica(replica, context)
    return structs.replace(storage, litestream=program and context.absolute(program), replica=replica)


def _replica(text: str, context: Context) -> str:
    check_placeholders("replica", text, context.faults)
    if text.startswith(SCHEME):
        plain = re.sub(r"\{[a-z]*\}", "x", text)  # the values of placeholders are plain too
        faults = list(url_faults(plain))
        if not faults and not bucket_of(plain, {}).prefix:
            faults = [f"{text!r} names no path in its bucket"]
        for fault in faults:
            context.faults.add(("storage", "replica"), fault)
    elif text.startswith(_FILE):
        return f"{_FILE}{context.absolute(re.sub('^/+', '/', text.removeprefix(_FILE)))}"
    elif ":" in text or not {"", ".", ".."}.isdisjoint(text.strip("/").split("/")):
        context.faults.add(("storage", "replica"), f"{text!r} is neither s3://BUCKET/PATH, file:FOLDER nor a plain key")
    return text


def check_placeholders(name: str, text: str, faults: Faults) -> None:
    """Check that the placeholders of a storage setting are known."""
    for placeholder in re.findall(r"\{([^{}]*)\}", text):
        if placeholder not in PLACEHOLDERS:
            known = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            faults.add(("storage", name), f"{{{placeholder}}} is not a placeholder: known are {known}")


SCHEME = "s3://"
KEY_ID, SECRET, TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
BUCKET_VARIABLE = "BUCKET_NAME"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # the first that is set is used, as in the AWS tools
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
TIGRIS = frozenset({"fly.storage.tigris.dev", "t3.storage.dev"})

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*")


class Bucket(Struct, frozen=True):
    name: str
    prefix: str  # of all keys: "", or ends with a slash
    endpoint: str | None  # https://host[:port]; None: Amazon S3
    region: str

    @property
    def on_tigris(self) -> bool:
        return self.endpoint is not None and urlsplit(self.endpoint).hostname in TIGRIS

    @property
    def place(self) -> str:
        """The location, for messages."""
        return self.endpoint or f"Amazon S3 ({self.region})"


def bucket_of(url: str, environ: Mapping[str, str]) -> Bucket:
    """Return the bucket for ``url``, which begins with ``s3://`` and has no ``url_faults``."""
    name, _, prefix = url.removeprefix(SCHEME).partition("/")
    prefix = prefix.strip("/")
    endpoint = _first(ENDPOINTS, environ)
    region = _first(REGIONS, environ) or ("us-east-1" if endpoint is None else "auto")
    return Bucket(name, f"{prefix}/" if prefix else "", endpoint and endpoint.rstrip("/"), region)


def url_faults(url: str) -> Iterator[str]:
    name, _, prefix = url.removeprefix(SCHEME).partition("/")
    if _BUCKET.fullmatch(name) is None:
        yield f"{url!r} names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX"
    prefix = prefix.strip("/")
    if prefix and (_PREFIX.fullmatch(prefix) is None or not {".", ".."}.isdisjoint(prefix.split("/"))):
        yield f"{prefix!r} cannot stand before keys: letters, digits, '-', '_', '.' and single slashes, as in a/b"


def environment_faults(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield missing and invalid variables of the environment, as (variable, sentence)."""
    for name in (KEY_ID, SECRET):
        if not environ.get(name, "").strip():
            yield name, "is not set, and a bucket needs it: on Fly, 'fly storage create' sets it as a secret"
    for name in ENDPOINTS:
        if environ.get(name) and not _is_url(environ[name]):
            yield name, f"{environ[name]!r} is not an address: it must be like https://fly.storage.tigris.dev"
    for name in REGIONS:
        if environ.get(name) and re.fullmatch(r"[a-z0-9-]+", environ[name]) is None:
            yield name, f"{environ[name]!r} is not a region: write auto for Tigris, or one such as eu-central-1"


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain and port != 0 and text.isprintable()
