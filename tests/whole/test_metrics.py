"""/metrics and /healthz: what monitoring gets after known traffic, and what it does not."""

import http.client
import socket
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slowness import SLOWNESS
from whole.conftest import StartDaemon
from whole.daemon import Daemon, config, eventually
from whole.visits import ask, serving

CONTROL = "  control: 127.0.0.1:0"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("metrics"), config(server=CONTROL)) as one:
        yield one


def monitor(daemon: Daemon, method: str, path: str) -> tuple[int, str, str]:
    """Status, content type, body."""
    address = daemon.until_reported("metrics are served")["on"].removeprefix("http://").removesuffix("/metrics")
    connection = http.client.HTTPConnection(address, timeout=10 * SLOWNESS)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
    connection.close()
    return found


def scrape(daemon: Daemon) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of their names) → value; every family is described and typed."""
    status, kind, text = monitor(daemon, "GET", "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge")
        for sample in family.samples:
            key = (sample.name, *(sample.labels[name] for name in sorted(sample.labels)))
            assert key not in found
            found[key] = sample.value
    return found


def test_the_counters_count_what_was_done(daemon: Daemon) -> None:
    before = scrape(daemon)
    assert before["flyatc_apps_running",] == 0
    for _ in range(3):
        assert daemon.get("/ann/one/echo").status == 200
    assert daemon.get("/ann/one/status?code=503").status == 503
    assert daemon.get("/nonesuch/").status == 404
    assert ask(daemon, b"GET / HTTP/1.1\r\nno header\r\n\r\n").status == 400
    after = scrape(daemon)
    assert after["flyatc_requests_total", "2xx", "ann/one"] == 3
    assert after["flyatc_requests_total", "5xx", "ann/one"] == 1
    assert after["flyatc_requests_total", "4xx", ""] == 1
    assert after["flyatc_tenant_epoch", "ann/one"] == 1
    assert after["flyatc_tenant_lag_seconds", "ann/one"] >= 0
    assert after["flyatc_tenant_database_bytes", "ann/one"] >= 4096
    assert after["flyatc_refused_total",] == 1
    assert after["flyatc_cold_starts_total",] == 1
    assert 0 < after["flyatc_cold_start_seconds_total",] < after["flyatc_request_seconds_total",]
    assert after["flyatc_sent_bytes_total",] > 500
    assert after["flyatc_requests_in_flight",] == 0
    assert after["flyatc_tenants", "ready"] == after["flyatc_apps_running",] == 1
    assert after["flyatc_tenants", "stopped"] == 2
    assert after["flyatc_app_starts_total", "ann/one"] == 1
    assert after["flyatc_apps_limit",] == 20
    assert 5e6 < after["flyatc_resident_memory_bytes",] < 3e8
    assert 0 < after["flyatc_uptime_seconds",] < 600
    for key, value in before.items():
        if key[0].endswith("_total"):
            assert after[key] >= value, key


def test_what_is_under_way_is_gauged(daemon: Daemon) -> None:
    daemon.get("/ann/two/echo")
    with daemon.connect() as slow, daemon.connect() as tunnel:
        slow.sendall(b"GET /ann/two/slow?s=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        tunnel.sendall(
            b"GET /ann/two/upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert tunnel.recv(1000).startswith(b"HTTP/1.1 101 ")
        eventually(lambda: scrape(daemon)["flyatc_tunnels",] == 1, 10, "one tunnel")
        eventually(lambda: scrape(daemon)["flyatc_requests_in_flight",] >= 1, 10, "one in flight")
    eventually(lambda: scrape(daemon)["flyatc_tunnels",] == 0, 10, "no tunnel")
    eventually(lambda: scrape(daemon)["flyatc_requests_in_flight",] == 0, 10, "none in flight")


def test_health_is_served_and_nothing_else_on_that_listener(daemon: Daemon) -> None:
    assert monitor(daemon, "GET", "/healthz")[::2] == (200, '{"status":"ok"}')
    for path in ("/status", "/logs", "/route?path=/", "/history?address=bob", "/"):
        assert monitor(daemon, "GET", path)[0] == 404
    for path in ("/start", "/stop", "/restart", "/reload", "/backup", "/restore"):
        assert monitor(daemon, "POST", path)[0] == 404
    assert monitor(daemon, "POST", "/metrics")[0] == 405
    assert daemon.get("/healthz").status == 404, "visitors have no part in it"
    assert daemon.get("/metrics").status == 404


def test_monitoring_is_off_unless_it_is_asked_for(start: StartDaemon) -> None:
    daemon = start(config())
    assert not daemon.reported("metrics are served")
    inodes = {line.split()[9] for line in listening(daemon.pid)}
    assert len(inodes) == 1, "one listening TCP socket: that of the visitors"


def listening(pid: int) -> list[str]:
    """Its lines of /proc/net/tcp with state 0A, by the inodes among its descriptors."""
    from pathlib import Path

    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:["):
            own.add(target[8:-1])
    lines = [*Path("/proc/net/tcp").read_text().splitlines()[1:]]
    if socket.has_ipv6:
        lines += Path("/proc/net/tcp6").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[3] == "0A" and line.split()[9] in own]


def test_the_cache_is_counted(daemon: Daemon) -> None:
    before = scrape(daemon)
    ask(daemon, b"GET /bob/up HTTP/1.1\r\nHost: x\r\n\r\n")
    after = scrape(daemon)
    assert after["flyatc_cache_requests_total", "misses"] == before["flyatc_cache_requests_total", "misses"] + 1
    assert after[("flyatc_cache_bytes",)] == after[("flyatc_cache_entries",)] == 0


def test_the_control_api_says_of_a_tenant_what_the_last_day_was(daemon: Daemon) -> None:
    def counted(of: str) -> int:
        return sum(one[of] for one in daemon.tenant("bob")["activity"])

    requests, errors = counted("requests"), counted("errors")
    for code in (200, 200, 503):
        assert daemon.get(f"/bob/status?code={code}").status == code
    eventually(lambda: (counted("requests"), counted("errors")) == (requests + 3, errors + 1), 10, "three responses")
    details = daemon.tenant("bob")
    slot = details["activity"][-1]
    assert slot["at"] % 300 == 0
    assert 0 < slot["median"] <= slot["slow"] < 60
    assert (details["status"]["state"], details["path"], details["tunnels"]) == ("ready", "/bob/", 0)
    assert [(one["name"], one["size"] >= 4096) for one in details["databases"]] == [("app.sqlite3", True)]
    assert daemon.cli("stop", "bob").returncode == 0
    assert max(one["memory"] for one in daemon.tenant("bob")["activity"]) > 5e6, "measured at the end of a short run"
