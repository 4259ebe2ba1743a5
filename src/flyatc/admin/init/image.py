"""Dockerfile and fly.toml of an app: whole texts, and what an existing one must get."""

from collections.abc import Iterator

from flyatc.admin.init.facts import Facts, Hit
from flyatc.admin.init.plan import Change, Image, Plan

COMMAND = 'CMD ["flyatc", "serve"]'
FLYATC = "ADD flyatc-*-linux-*.tar.gz /opt/"  # unpacks /opt/flyatc, which has its own Python
ARCHIVE = "make dist in a checkout of flyatc, and copy dist/flyatc-*.tar.gz into this folder"
DOCKERIGNORE = ("/data/", "/store/", ".git", "node_modules", "**/__pycache__", "*.sqlite3", "*.sqlite3-*")
_APT = "RUN apt-get update && apt-get install -y --no-install-recommends {} && rm -rf /var/lib/apt/lists/*"


def environment(folder: str) -> str:
    return f"ENV PATH=/opt/flyatc/bin:$PATH FLYATC_CONFIG={folder}/tenants.yaml FLYATC_DATA=/data"


def dockerfile(plan: Plan) -> str:
    return "\n".join(_dockerfile(plan.image)) + "\n"


def _dockerfile(image: Image) -> Iterator[str]:
    yield f"# The app, with flyatc as the command: {ARCHIVE}."
    yield f"FROM {image.base}"
    yield "WORKDIR /app"
    if image.packages:
        yield _APT.format(" ".join(image.packages))
    yield FLYATC
    if image.manifests:
        yield f"COPY {' '.join(image.manifests)} ./"
    yield from image.install
    yield "COPY . ."
    yield from image.build
    yield '# FLYATC_DATA is where fly.toml mounts the volume; FLYATC_CONFIG is for fly ssh console -C "flyatc status"'
    yield environment("/app")
    yield "EXPOSE 3000"
    yield "# as root flyatc gives each tenant a user id of its own; in brackets, so that signals reach it"
    yield COMMAND


def changes(facts: Facts) -> Iterator[Change]:
    """Yield what an existing Dockerfile must get."""
    name = "Dockerfile"
    last = _last(facts, r"(?i)^\s*FROM\s+(\S+)")
    user, command = _last(facts, r"(?i)^\s*USER\s+([\w.-]+)"), _last(facts, r"(?i)^\s*CMD\b")
    place = _last(facts, r"(?i)^\s*WORKDIR\s+[\"']?(/[\w./-]*)")
    if facts.find(r"/opt/flyatc", name) is None:
        before = user.line - 1 if user is not None and last is not None and user.line > last.line else None
        if before is None and command is not None:
            before = command.line - 1
        base = last.match[1] if last else ""
        lines = [FLYATC]
        if user is not None and before == user.line - 1:
            lines.append(f"RUN install --directory --owner={user.match[1]} /data")
        why = f"first {ARCHIVE}"
        if "alpine" in base:
            why = f"{base} has no glibc: use one of Debian, or a wheel of flyatc (docs/deploy.md). {why}"
        for line in (*lines, environment(place.match[1].rstrip("/") if place else "/app")):
            yield Change(name, line, why, before)
            why = ""
    if facts.find(r"(?i)^\s*COPY\s+(?:--\S+\s+)*(?:\.|tenants\.yaml)\s", name) is None:
        yield Change(name, "COPY tenants.yaml ./", "", command.line - 1 if command else None)
    if command is None:
        yield Change(name, COMMAND, "flyatc starts the app")
    elif "flyatc" not in command.text:
        yield Change(name, COMMAND, "flyatc starts the app, as tenants.yaml says", command.line, command.text)


def _last(facts: Facts, pattern: str) -> Hit | None:
    hits = list(facts.hits(pattern, "Dockerfile"))
    return hits[-1] if hits else None


def ignored(facts: Facts) -> Iterator[Change]:
    """Yield what an existing .dockerignore must get: no image may contain the tenants' databases."""
    lines = {line.strip().strip("/") for line in facts.text(".dockerignore").splitlines()}
    for folder in ("data", "store"):
        if not lines & {folder, "*", f"**/{folder}"}:
            yield Change(".dockerignore", f"/{folder}/", "no image may contain the tenants' databases")


def fly_toml(name: str) -> str:
    return f'''\
# The app on Fly.io: docs/deploy.md of flyatc explains the settings. Before the first deploy:
#   fly apps create {name}; fly volumes create data --region iad --size 1; fly storage create

app = "{name}"
primary_region = "iad"

kill_signal = "SIGTERM"
kill_timeout = 30               # seconds: flyatc saves all databases; above server.shutdown_timeout (25s)

[[mounts]]
  source = "data"
  destination = "/data"         # FLYATC_DATA in the Dockerfile

[http_service]
  internal_port = 3000
  force_https = true
  auto_stop_machines = "stop"   # saved on SIGTERM; the next request starts the machine
  auto_start_machines = true
  min_machines_running = 0

  [[http_service.checks]]
    method = "GET"
    path = "/up"                # flyatc responds by itself, no tenant is started
    grace_period = "10s"
    interval = "15s"
    timeout = "5s"

[[vm]]
  size = "shared-cpu-1x"
  memory = "1gb"                # flyatc takes less than 50 MB; add the memory of the running apps
'''


def fly_changes(facts: Facts) -> Iterator[Change]:
    """Yield what an existing fly.toml must get."""
    wanted = (
        (r"^\s*kill_signal\s*=\s*['\"]SIG(?:TERM|INT)", 'kill_signal = "SIGTERM"', "flyatc saves on it"),
        (r"^\s*kill_timeout\s*=", "kill_timeout = 30", "after 5 seconds, Fly's default, saves would be cut off"),
        (
            r"^\s*destination\s*=\s*['\"]/data['\"]",
            '[[mounts]] source = "data", destination = "/data"',
            "the databases",
        ),
        (r"^\s*path\s*=\s*['\"]/up['\"]", '[[http_service.checks]] path = "/up"', "a check must not start a tenant"),
    )
    for pattern, line, why in wanted:
        if facts.find(pattern, "fly.toml") is None:
            yield Change("fly.toml", line, why)
    port = facts.find(r"^\s*internal_port\s*=\s*(\d+)", "fly.toml")
    if port is None or port.match[1] != "3000":
        yield Change("fly.toml", "internal_port = 3000", "server.listen", *((port.line, port.text) if port else ()))
