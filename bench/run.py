"""flyatc beside nginx, HAProxy and Caddy, in front of the same app, in one run. See README.md.

python bench/run.py [--quick] [--markdown] [--only small,64k,…]
"""

import argparse
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bodies
import cases
import children
import delivering
import delivery
import forwarding
import herd
import hostile
import load
import many
import peers
import starts
import storage
import stores
from report import Table

GROUPS = {"delivery": delivery.ALL, "many": many.ALL, "storage": storage.ALL}
ALL = [
    "small", "64k", "10m", "ws", *delivery.ALL, "cold", "herd", "start", "starts", "heads", "forwarded", *many.ALL,
    *storage.ALL,
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute, and rougher")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    groups = "; ".join(f"{name}: {','.join(members)}" for name, members in GROUPS.items())
    parser.add_argument("--only", default=",".join(ALL), help=f"some of {','.join(ALL)}; {groups}")
    options = parser.parse_args()
    wanted = [one for name in options.only.split(",") for one in GROUPS.get(name, [name])]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of every finally: no child is left behind
    missing = [name for name in ("wrk", "nginx", "haproxy", "caddy") if shutil.which(name) is None]
    if missing:
        say(f"Not here, so left out: {', '.join(missing)}. On Debian: apt install {' '.join(missing)}")
    with place() as here:
        print(head(here, missing))
        for table in measured(here, wanted, quick=options.quick, missing=missing):
            print(table.markdown() if options.markdown else table.text(), flush=True)


def measured(place: peers.Place, wanted: list[str], *, quick: bool, missing: list[str]) -> Iterator[Table]:
    if {"wrk", "nginx"} & set(missing):
        say("No load without wrk, and no app to press without nginx: only what needs neither is measured.")
    else:
        with contextlib.ExitStack() as stack:
            yield from _under_load(stack, place, wanted, quick=quick)
        if set(delivery.ALL) & set(wanted):
            with contextlib.ExitStack() as stack:
                yield from _delivered(stack, place, wanted, quick=quick)
    singly = (
        ("cold", cases.cold_start, 15),
        ("herd", herd.cold_starts, 1 if quick else 5),
        ("start", cases.daemon_start, 5),
        ("starts", starts.memory, 600 if quick else 6000),
        ("forwarded", forwarding.uploads, 15),
    )
    for name, case, count in singly:
        if name in wanted:
            say(f"{name} …")
            try:
                yield case(place, count)
            except (children.NotListening, RuntimeError, OSError) as error:
                say(f"{name}: {error}")
    if "heads" in wanted:
        say("heads …")
        yield hostile.measured()
    for name in many.ALL:
        if name in wanted:
            say(f"{name} …")
            try:
                yield from many.measured(place, name, quick=quick)
            except (children.NotListening, RuntimeError, OSError) as error:
                say(f"{name}: {error}")
    if set(storage.ALL) & set(wanted):
        yield from _stored(place, wanted, quick=quick)


def _under_load(stack: contextlib.ExitStack, place: peers.Place, wanted: list[str], *, quick: bool) -> Iterator[Table]:
    proxies = _start(stack, place, big="small" in wanted) if {"small", "64k", "10m", "ws"} & set(wanted) else []
    usual = [proxy for proxy in proxies if proxy.name not in ("flyatc", "flyatc-10k", "thruster")]
    if "small" in wanted:
        say("small answers …")
        seconds, count = (1, 3) if quick else (2, 7)
        found = cases.rounds(proxies, place, "/bench/small", seconds=seconds, connections=64, count=count)
        yield cases.small_answers(found)
    for name, size in (("64k", "64 KB"), ("10m", "10 MB")):
        if name in wanted:
            say(f"{size} answers …")
            count = 1 if quick else 5
            found = cases.rounds(usual, place, f"/bench/{name}", seconds=1, connections=8, count=count)
            yield cases.long_answers(size, found)
    if "ws" in wanted:
        say("WebSockets …")
        yield cases.upgrades(usual, place)


def _start(stack: contextlib.ExitStack, place: peers.Place, *, big: bool) -> list[peers.Proxy]:
    """The apps and whatever proxies are here. Whoever does not start is named, and left out."""
    ports = [_app(stack, place, program) for program in ("upstream.py", "upgrade_upstream.py")]
    proxies = []
    for name, start in (("nginx", peers.nginx), ("haproxy", peers.haproxy), ("caddy", peers.caddy)):
        if shutil.which(name):
            proxies.append(_enter(stack, start(place, *ports)))
    proxies.append(_enter(stack, peers.flyatc(place, cases.FLYATC_OFF, delivery=peers.OFF)))
    if big:
        proxies.append(_enter(stack, peers.flyatc(place)))
        proxies.append(_enter(stack, peers.flyatc(place, "flyatc-10k", others=10_000)))
        if "THRUSTER" in os.environ:
            proxies.append(_enter(stack, peers.thruster(place, *ports)))
    return [proxy for proxy in proxies if proxy is not None]


def _app(stack: contextlib.ExitStack, place: peers.Place, program: str) -> int:
    """Its port."""
    port = children.free_port()
    command, output = [sys.executable, str(peers.HERE / program)], place.folder / f"{program}.log"
    env = place.app_environment(port)
    stack.enter_context(children.running(command, port=port, cores=place.rest, output=output, env=env))
    return port


def _delivered(stack: contextlib.ExitStack, place: peers.Place, wanted: list[str], *, quick: bool) -> Iterator[Table]:
    try:
        nginx = stack.enter_context(delivering.nginx(place, _app(stack, place, "upstream.py")))
        bench = delivery.Bench(place, nginx, stack.enter_context(delivering.flyatc(place)), quick=quick)
    except children.NotListening as error:
        return say(f"delivery: {error}")
    for name in delivery.ALL:
        if name in wanted:
            say(f"{name} …")
            try:
                yield bench.case(name)
            except (children.NotListening, RuntimeError, OSError) as error:
                say(f"{name}: {error}")


def _stored(place: peers.Place, wanted: list[str], *, quick: bool) -> Iterator[Table]:
    if absent := stores.missing():
        return say(f"No stores without {', '.join(absent)}: pip install --group test, beside flyatc")
    for name in storage.ALL:
        if name in wanted:
            say(f"{name} …")
            try:
                yield from storage.measured(place, name, quick=quick)
            except (children.NotListening, RuntimeError, OSError) as error:
                say(f"{name}: {error}")


def _enter(stack: contextlib.ExitStack, start: contextlib.AbstractContextManager[peers.Proxy]) -> peers.Proxy | None:
    """The proxy, once it has answered: then its app runs, too."""
    try:
        proxy = stack.enter_context(start)
        load.first_byte(proxy.port, "/bench/small")
        return proxy
    except (children.NotListening, RuntimeError, OSError) as error:
        say(str(error))
        return None


@contextlib.contextmanager
def place() -> Iterator[peers.Place]:
    """A folder in memory with the files to serve; one core for the proxy, the others for visitors and apps."""
    cores = sorted(os.sched_getaffinity(0))
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="flyatc-bench-", dir=memory) as name:
        folder = Path(name)
        (folder / "apps").mkdir()
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode: ours is made here, once
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        # a daemon that compiles itself has 2.5 MB more
        subprocess.run([sys.executable, "-c", "import flyatc.cli.serve, flyatc.daemon.daemon"], check=True)
        (folder / "www" / "bench").mkdir(parents=True)
        (folder / "www" / "bench" / "64k").write_bytes(os.urandom(64 << 10))
        (folder / "www" / "bench" / "10m").write_bytes(os.urandom(10 << 20))
        (folder / "www" / "bench" / "100m").write_bytes(os.urandom(100 << 20))
        (folder / "www" / "bench" / "page").write_bytes(bodies.page(20 << 10))
        (folder / "www" / "bench" / "asset").write_bytes(bodies.stylesheet(10 << 10))
        (folder / "www" / "bench" / "note").write_bytes(bodies.stylesheet(1 << 10))
        yield peers.Place(folder, {cores[0]}, set(cores[1:]) or {cores[0]})


def head(place: peers.Place, missing: list[str]) -> str:
    programs = [peers.version(name) for name in ("nginx", "haproxy", "caddy", "wrk") if name not in missing]
    shared = "" if place.proxy != place.rest else " ONE CORE FOR ALL: compare with care."
    built = sysconfig.get_config_var("CONFIG_ARGS") or ""
    how = "with" if "--enable-optimizations" in built else "without"
    python = f"Python {platform.python_version()} ({sys.executable}, {how} profile-guided optimisation)"
    versions = "; ".join([python, *programs])
    return f"{versions}; {os.cpu_count()} cores, one for the proxy.{shared}\n"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
