"""The proxies, each on terms its own experts would choose: one worker, kept-alive upstream connections, access log on.

A log is written to memory (the bench's folder), in batches where the proxy can, as flyatc does.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import children

HERE = Path(__file__).parent

NGINX = """
{user}
daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{
  access_log {folder}/nginx-access.log combined buffer=64k flush=50ms;
  keepalive_requests 1000000000; keepalive_timeout 300s; proxy_max_temp_file_size 0; proxy_buffers 16 32k;
  map $http_upgrade $wished {{ default upgrade; "" ""; }}
  upstream app {{ server 127.0.0.1:{app}; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  upstream sockets {{ server 127.0.0.1:{sockets}; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Connection $wished;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Request-Id $request_id;
    location / {{ proxy_pass http://app; }}
    location /ws {{ proxy_pass http://sockets; proxy_read_timeout 300s; }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 8192
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option forwardfor
  http-reuse always
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout tunnel 300s
frontend visitors
  bind 127.0.0.1:{port} backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  use_backend sockets if {{ path_beg /ws/ }}
  default_backend app
backend app
  server one 127.0.0.1:{app} pool-max-conn 128
backend sockets
  server one 127.0.0.1:{sockets}
"""

CADDY = """
{{
  admin off
  auto_https off
  storage file_system {folder}/caddy
  log {{
    output discard
  }}
}}
http://127.0.0.1:{port} {{
  bind 127.0.0.1
  log {{
    output file {folder}/caddy-access.log {{
      roll_disabled
    }}
  }}
  handle /ws* {{
    reverse_proxy 127.0.0.1:{sockets}
  }}
  handle {{
    reverse_proxy 127.0.0.1:{app} {{
      header_up X-Request-Id {{http.request.uuid}}
      transport http {{
        keepalive_idle_conns_per_host 128
      }}
    }}
  }}
}}
"""

FLYATC = """
server: {{listen: "127.0.0.1:{port}", data: {folder}/{name}/data}}
storage: {{url: "file:{folder}/{name}/store"}}
app:
  isolation: "off"  # it writes into the bench's folder
  command: [{python}, upstream.py]
  idle: 0s
{delivery}  env: {{BENCH_FOLDER: "{folder}", BENCH_CORES: "{cores}"}}
  directory: {here}
limits: {{running: 100}}
users:
{others}  bench:
  ws: {{command: [{python}, upgrade_upstream.py]}}
"""

OFF = "  delivery: {compression: {enabled: false}, cache: {enabled: false}, sendfile: {enabled: false}}\n"


@dataclass(frozen=True)
class Place:
    """Where the bench happens: its folder in memory, the proxy's core, the cores of visitors and apps."""

    folder: Path
    proxy: Set[int]
    rest: Set[int]

    def app_environment(self, port: int) -> dict[str, str]:
        cores = ",".join(map(str, self.rest))
        return {**os.environ, "PORT": str(port), "BENCH_FOLDER": str(self.folder), "BENCH_CORES": cores}

    def apps(self) -> list[int]:
        """The pids of the apps: no part of any proxy."""
        return [int(note.name) for note in (self.folder / "apps").iterdir()]


@dataclass(frozen=True)
class Proxy:
    name: str
    port: int
    pid: int


Start = Callable[
    [Place, int, int], contextlib.AbstractContextManager[Proxy]
]  # (place, port of the app, of the sockets)


@contextlib.contextmanager
def _peer(name: str, place: Place, command: list[str], config: Path, text: str, port: int) -> Iterator[Proxy]:
    config.write_text(text)
    output = place.folder / f"{name}.log"
    env = {**os.environ, "GOMAXPROCS": "1", "HOME": str(place.folder)}
    with children.running(command, port=port, cores=place.proxy, output=output, env=env) as child:
        yield Proxy(name, port, child.pid)


def nginx(place: Place, app: int, sockets: int) -> contextlib.AbstractContextManager[Proxy]:
    port, config = children.free_port(), place.folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(user=user, folder=place.folder, port=port, app=app, sockets=sockets)
    return _peer("nginx", place, ["nginx", "-p", str(place.folder), "-c", str(config)], config, text, port)


def haproxy(place: Place, app: int, sockets: int) -> contextlib.AbstractContextManager[Proxy]:
    port, config = children.free_port(), place.folder / "haproxy.cfg"
    text = HAPROXY.format(port=port, app=app, sockets=sockets)
    return _peer("haproxy", place, ["haproxy", "-db", "-f", str(config)], config, text, port)


def caddy(place: Place, app: int, sockets: int) -> contextlib.AbstractContextManager[Proxy]:
    port, config = children.free_port(), place.folder / "Caddyfile"
    text = CADDY.format(folder=place.folder, port=port, app=app, sockets=sockets)
    command = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
    return _peer("caddy", place, command, config, text, port)


def thruster(place: Place, app: int, sockets: int) -> contextlib.AbstractContextManager[Proxy]:
    """The program at $THRUSTER, as it is installed, with the same app as its child."""
    port, own = children.free_port(), children.free_port()
    command = [os.environ["THRUSTER"], sys.executable, str(HERE / "upstream.py")]
    settings = {"HTTP_PORT": str(port), "TARGET_PORT": str(own), "GOMAXPROCS": "1", "HOME": str(place.folder)}
    return _thruster(place, command, {**place.app_environment(own), **settings}, port)


@contextlib.contextmanager
def _thruster(place: Place, command: list[str], env: dict[str, str], port: int) -> Iterator[Proxy]:
    output = place.folder / "thruster.log"
    with children.running(command, port=port, cores=place.proxy, output=output, env=env) as child:
        yield Proxy("thruster", port, child.pid)


def flyatc_command() -> list[str]:
    return [sys.executable, "-m", "flyatc", "serve"]  # reads tenants.yaml of the folder where it runs


def flyatc_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PORT"}


@contextlib.contextmanager
def flyatc(place: Place, name: str = "flyatc", others: int = 0, delivery: str = "") -> Iterator[Proxy]:
    """Has its own copies of the same apps, as tenants. ``others``: so many tenants more, without requests;
    ``delivery``: lines of the app's settings, such as OFF; none: as it is installed."""
    port, home = children.free_port(), place.folder / name
    home.mkdir(exist_ok=True)
    text = FLYATC.format(
        port=port, folder=place.folder, name=name, cores=",".join(map(str, place.rest)), here=HERE,
        python=sys.executable, delivery=delivery, others="".join(f"  u{number}:\n" for number in range(others)),
    )  # fmt: skip
    (home / "tenants.yaml").write_text(text)
    with children.running(
        flyatc_command(), port=port, cores=place.proxy, output=home / "output.log", env=flyatc_environment()
    ) as child:
        yield Proxy(name, port, child.pid)


def version(program: str) -> str:
    """One line, for the head of the table; "" when it is not there."""
    if shutil.which(program) is None:
        return ""
    flag = {"nginx": "-v", "haproxy": "-v", "caddy": "version", "wrk": "-v"}[program]
    done = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    first = (done.stdout + done.stderr).strip().splitlines()[0]
    first = first.removeprefix("nginx version: ").partition(" - ")[0].partition(" Copyright")[0]
    return f"Caddy {first}" if program == "caddy" else first
