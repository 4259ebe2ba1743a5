"""The sections which are the daemon's own, checked and made absolute: server and storage. Pure."""

import re
from ipaddress import ip_address
from pathlib import Path

from msgspec import structs

from flyatc.config import bucket, names
from flyatc.config.faults import Faults
from flyatc.config.layers import Surroundings
from flyatc.config.listen import Listen
from flyatc.config.platform import LEAST_REPLAY_CACHE, Fly, Replay
from flyatc.config.schema import ONLY, Server, Storage
from flyatc.config.streaming import check_words, streaming

LOOPBACK = "127.0.0.1"
FOLDER = "file:./store"


def server(server: Server, around: Surroundings) -> Server:
    """``data`` absolute, ``root`` without a slash at its end, the environment's variables put in, a bare control
    port on loopback."""
    control = server.control
    if control is not None and control.host is None:
        control = Listen(LOOPBACK, control.port)
    listen = _listen_of_environment(server.listen, around)
    data = around.environ.get("FLYATC_DATA") or server.data
    if control is not None and control.port == listen.port != 0:
        around.faults.tell(("server", "control"), f"is the port of visitors too ({listen}): take another")
    if fault := names.root(server.root):
        around.faults.tell(("server", "root"), fault)
    if server.health is not None and (fault := _health_fault(server.health)):
        around.faults.tell(("server", "health"), fault)
    return structs.replace(
        server,
        listen=listen,
        control=control,
        root=server.root.rstrip("/") or "/",
        data=around.absolute(data),
    )


def fly(fly: Fly, around: Surroundings) -> Fly:
    faults, told = around.faults, around.environ.get("FLYATC_RESOLVER")
    if told:
        try:
            fly = structs.replace(fly, resolver=Listen.parse(told))
        except ValueError as error:
            faults.tell_environment("FLYATC_RESOLVER", str(error))
    if key := around.environ.get("FLYATC_METADATA") or fly.metadata or (around.environ.get(ONLY) and ONLY.lower()):
        fly = structs.replace(fly, metadata=key)
    if fly.metadata is not None and re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,62}", fly.metadata) is None:
        faults.tell(("fly", "metadata"), f"{fly.metadata!r} cannot be asked for by DNS: a-z, 0-9, - and _, at most 63")
    if fly.resolver is not None and (fly.resolver.host is None or not _is_address(fly.resolver.host)):
        faults.tell(("fly", "resolver"), f"{fly.resolver} names no server: write its address, such as [fdaa::3]:53")
    return fly


def replay(replay: Replay, around: Surroundings) -> Replay:
    if 0 < replay.cache < LEAST_REPLAY_CACHE:
        around.faults.tell(
            ("replay", "cache"), f"is less than {LEAST_REPLAY_CACHE} s, which Fly Proxy does not take: more, or 0"
        )
    return replay


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def storage(storage: Storage, data: str, around: Surroundings) -> Storage:
    """``url`` as ``s3://…``, or with an absolute folder. ``data``: the absolute folder of the running databases."""
    storage = streaming(storage, around)
    if storage.key is not None:
        check_words("key", storage.key, around.faults)
    url = storage.url or _url_of_environment(storage, around)
    if url.startswith(bucket.SCHEME):
        _tell_bucket(storage, url, around)
        return structs.replace(storage, url=url)
    folder = _folder(url, around.faults)
    if folder is None:
        return storage
    absolute = around.absolute(folder)
    if Path(absolute) == Path(data) or Path(absolute).is_relative_to(Path(data) / "tenants"):
        around.faults.tell(("storage", "url"), "must not be where the running databases are (server.data)")
    return structs.replace(storage, url=f"file:{absolute}")


def _url_of_environment(storage: Storage, around: Surroundings) -> str:
    name = around.environ.get(bucket.NAME)
    return f"{bucket.SCHEME}{name}" if name and storage.mode != "none" else FOLDER


def _tell_bucket(storage: Storage, url: str, around: Surroundings) -> None:
    for fault in bucket.url_faults(url):
        if storage.url:
            around.faults.tell(("storage", "url"), fault)
        else:
            around.faults.tell_environment(bucket.NAME, f"{around.environ[bucket.NAME]!r} is not the name of a bucket")
    if storage.mode != "none":
        for variable, fault in bucket.environment_faults(around.environ):
            around.faults.tell_environment(variable, fault)


def _listen_of_environment(listen: Listen, around: Surroundings) -> Listen:
    listen = Listen(around.environ.get("FLYATC_HOST") or listen.host, listen.port)
    text = around.environ.get("PORT")
    if text is None:
        return listen
    if re.fullmatch(r"[0-9]{1,5}", text) is None or int(text) > 65535:
        around.faults.tell_environment("PORT", f"{text!r} is not a port: it must be a number up to 65535, or unset")
        return listen
    return Listen(listen.host, int(text))


def _health_fault(health: str) -> str | None:
    if re.fullmatch(r"/[!-~]*", health) is None or "?" in health or "#" in health:
        return f"{health!r} must be a path such as /up: begin with '/', and have no blanks, '?' or '#'"
    return None


def _folder(url: str, faults: Faults) -> str | None:
    scheme, colon, rest = url.partition(":")
    if not colon or scheme != "file":
        faults.tell(("storage", "url"), f"{url!r} is not a store: write file:FOLDER or s3://BUCKET")
    elif not rest or (rest.startswith("//") and not rest.startswith("///")):
        faults.tell(
            ("storage", "url"), f"{url!r} names no folder of this machine: write file:./store or file:/var/store"
        )
    else:
        return re.sub("^/+", "/", rest)
    return None
