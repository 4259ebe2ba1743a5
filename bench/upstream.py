"""The app behind every proxy: one nginx process with fixed answers on 127.0.0.1:$PORT. flyatc runs it as a tenant.

``/bench/small`` a JSON answer of 200 octets, ``/bench/64k`` and ``/bench/10m`` files. Environment: ``BENCH_FOLDER``
(holds ``www``; this process leaves its pid in ``apps``), ``BENCH_CORES`` (where it may run: not on the proxy's core).

For delivery.py: ``/small`` is the same again, ``/page`` has 20 KB, ``/asset`` (10 KB) and ``/note`` (1 KB) are public,
``/packed/asset`` is compressed here, and ``/file`` names a large file in the header that the proxy offers to take.
"""

import os
from pathlib import Path

CONFIG = """
{user}
daemon off; master_process off; error_log {folder}/upstream-{port}.log; pid {folder}/upstream-{port}.pid;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 300s;
  default_type application/json;
  map $http_x_sendfile_type $file {{ default ""; X-Sendfile {folder}/www/bench/100m; }}
  map $http_x_sendfile_type $place {{ default ""; X-Accel-Redirect /files/100m; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {folder}/www;
    location = /bench/small {{
      add_header Cache-Control "private, max-age=0, must-revalidate";
      add_header X-Runtime 0.004217;
      add_header Set-Cookie "session=nW3vTq0yJp8aZ1cXeR5uLk7mB2dG9hF4sQ6oI0wEtYvNzKj; path=/; HttpOnly; SameSite=Lax";
      return 200 '{{"ok": true, "note": "{note}"}}';
    }}
    location = /small {{ rewrite ^ /bench/small last; }}
    location = /page {{ default_type text/html; alias {folder}/www/bench/page; }}
    location = /asset {{ default_type text/css; alias {folder}/www/bench/asset; add_header Cache-Control {public}; }}
    location = /note {{ default_type text/css; alias {folder}/www/bench/note; add_header Cache-Control {public}; }}
    location = /packed/asset {{
      default_type text/css; alias {folder}/www/bench/asset; add_header Cache-Control {public};
      gzip on; gzip_comp_level 6; gzip_types text/css; gzip_vary on;
    }}
    location = /file {{ add_header X-Sendfile $file; add_header X-Accel-Redirect $place; return 200 ""; }}
  }}
}}
"""


PUBLIC = '"public, max-age=86400"'


def main() -> None:
    folder, port = Path(os.environ["BENCH_FOLDER"]), os.environ["PORT"]
    os.sched_setaffinity(0, map(int, os.environ["BENCH_CORES"].split(",")))
    (folder / "apps" / str(os.getpid())).touch()
    config = folder / f"upstream-{port}.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(CONFIG.format(user=user, folder=folder, port=port, note="x" * 173, public=PUBLIC))
    os.execvp("nginx", ["nginx", "-p", str(folder), "-c", str(config)])


if __name__ == "__main__":
    main()
