"""The proxies of delivery.py: flyatc as it is installed, and nginx as its experts set it up for each task."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import children
import peers

NGINX = """
{user}
daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {folder}/nginx-delivery.pid;
error_log {folder}/nginx-delivery-error.log;
events {{ worker_connections 8192; }}
http {{
  access_log {folder}/nginx-delivery-access.log combined buffer=64k flush=50ms;
  keepalive_requests 1000000000; keepalive_timeout 300s; proxy_max_temp_file_size 0; proxy_buffers 16 32k;
  sendfile on; tcp_nopush on; default_type application/octet-stream;
  proxy_cache_path {folder}/nginx-cache levels=1:2 keys_zone=kept:4m inactive=1h use_temp_path=off;
  open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;
  upstream app {{ server 127.0.0.1:{app}; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Request-Id $request_id;
    proxy_set_header X-Sendfile-Type X-Accel-Redirect;
    add_header X-Cache $upstream_cache_status;
    gzip_types text/css;
    gzip_vary on;
    location = /plain/page {{ proxy_pass http://app/page; }}
    location = /gzip1/page {{ proxy_pass http://app/page; gzip on; gzip_comp_level 1; }}
    location = /gzip6/page {{ proxy_pass http://app/page; gzip on; gzip_comp_level 6; }}
    location = /cached/asset {{ proxy_pass http://app/asset; proxy_cache kept; }}
    location = /cached-gzip6/asset {{ proxy_pass http://app/asset; proxy_cache kept; gzip on; gzip_comp_level 6; }}
    location = /cached-packed/asset {{
      proxy_pass http://app/packed/asset; proxy_cache kept; proxy_set_header Accept-Encoding $http_accept_encoding;
    }}
    location = /named/file {{ proxy_pass http://app/file; }}
    location /files/ {{ internal; alias {folder}/www/bench/; }}
  }}
}}
"""

FLYATC = """
server: {{listen: "127.0.0.1:{port}", control: "127.0.0.1:{control}", data: {folder}/{name}/data}}
storage: {{mode: none}}
cache: {{size: 512MB}}
app:
  isolation: "off"  # it writes into the bench's folder
  command: [{python}, upstream.py]
  directory: {here}
  idle: 0s
  strip_prefix: true
  env: {{BENCH_FOLDER: "{folder}", BENCH_CORES: "{cores}"}}
  delivery: {{sendfile: {{roots: ["{folder}/www"]}}}}
users:
  full:
  bare: {{delivery: {{compression: {{enabled: false}}, cache: {{enabled: false}}, sendfile: {{enabled: false}}}}}}
"""


@dataclass(frozen=True)
class Deliverer(peers.Proxy):
    """``control``: the port of flyatc's metrics; of nginx nought."""

    control: int = 0


@contextlib.contextmanager
def nginx(place: peers.Place, app: int) -> Iterator[Deliverer]:
    port, config = children.free_port(), place.folder / "nginx-delivery.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(user=user, folder=place.folder, port=port, app=app))
    command = ["nginx", "-p", str(place.folder), "-c", str(config)]
    with children.running(command, port=port, cores=place.proxy, output=place.folder / "nginx-delivery.log") as child:
        yield Deliverer("nginx", port, child.pid)


@contextlib.contextmanager
def flyatc(place: peers.Place, name: str = "flyatc-delivery") -> Iterator[Deliverer]:
    """Two tenants with the same app: full has all of delivery, bare has none of it."""
    port, control, home = children.free_port(), children.free_port(), place.folder / name
    home.mkdir(exist_ok=True)
    text = FLYATC.format(
        port=port, control=control, folder=place.folder, name=name, cores=",".join(map(str, place.rest)),
        here=peers.HERE, python=sys.executable,
    )  # fmt: skip
    (home / "tenants.yaml").write_text(text)
    with children.running(
        peers.flyatc_command(), port=port, cores=place.proxy, output=home / "output.log", env=peers.flyatc_environment()
    ) as child:
        yield Deliverer("flyatc", port, child.pid, control)
