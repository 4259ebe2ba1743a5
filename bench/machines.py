"""flyatc as one machine of an app on Fly, for many.py; and nginx, which has but one answer for everybody."""

import contextlib
import os
import sys
from collections.abc import Iterator

import children
import peers
import private_dns

APP, ME = "bench", "148e21dad76789"
ENVIRONMENT = {"FLY_APP_NAME": APP, "FLY_MACHINE_ID": ME, "FLY_REGION": "bos", "FLYATC_SECRET": "of the bench"}
STATE = "flyatc.1.1700000000.m.0123456789abcdef0123456789abcdef"

NGINX = """
{user}
daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {folder}/nginx-replay.pid;
error_log {folder}/nginx-replay-error.log;
events {{ worker_connections 8192; }}
http {{
  access_log {folder}/nginx-replay-access.log combined buffer=64k flush=50ms;
  keepalive_requests 1000000000; keepalive_timeout 300s;
  default_type text/plain;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      add_header Fly-Replay "instance={far};timeout=30000ms;fallback=force_self;state={state}" always;
      add_header Cache-Control no-store always;
      add_header X-Request-Id $request_id always;
      return 409 "Another machine serves this; Fly Proxy replays the request there.\\n";
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
  env: {{BENCH_FOLDER: "{folder}", BENCH_CORES: "{cores}"}}
  directory: {here}
fly: {{metadata: customer_id, resolver: "127.0.0.1:{dns}"}}
users:
{others}  bench:
    delivery: &none {{compression: {{enabled: false}}, cache: {{enabled: false}}, sendfile: {{enabled: false}}}}
  far: {{delivery: *none}}
  pinned: {{machine: {far}, delivery: *none}}
  full: {{machine: {far}}}
  "*": {{match: "[fs][0-9]+"}}
"""


@contextlib.contextmanager
def flyatc(place: peers.Place, name: str, answering: private_dns.Dns, others: int = 0) -> Iterator[peers.Proxy]:
    """``bench`` is at home here, ``far`` is on another machine. ``others``: so many more users who are listed."""
    port, home = children.free_port(), place.folder / name
    home.mkdir(exist_ok=True)
    text = FLYATC.format(
        port=port, folder=place.folder, name=name, cores=",".join(map(str, place.rest)), here=peers.HERE,
        python=sys.executable, dns=answering.port, far=private_dns.FAR,
        others="".join(f"  f{number}:\n" for number in range(others)),
    )  # fmt: skip
    (home / "tenants.yaml").write_text(text)
    env = {**peers.flyatc_environment(), **ENVIRONMENT}
    with children.running(
        peers.flyatc_command(), port=port, cores=place.proxy, output=home / "output.log", env=env
    ) as child:
        yield peers.Proxy(name, port, child.pid)


@contextlib.contextmanager
def nginx(place: peers.Place) -> Iterator[peers.Proxy]:
    port, config = children.free_port(), place.folder / "nginx-replay.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(user=user, folder=place.folder, port=port, far=private_dns.FAR, state=STATE))
    command = ["nginx", "-p", str(place.folder), "-c", str(config)]
    with children.running(command, port=port, cores=place.proxy, output=place.folder / "nginx-replay.log") as child:
        yield peers.Proxy("nginx", port, child.pid)
