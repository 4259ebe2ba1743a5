"""Metrics in Prometheus' text format. The client library is imported at the first scrape: few daemons see one."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from time import time
from typing import TYPE_CHECKING

from msgspec import Struct

from flyatc.control.types import Overview
from flyatc.observe.counters import Counters
from flyatc.process import measure_work
from flyatc.tenants.state import State, Status

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_BY_NAME = ("requests", "sent", "cache")  # fields of Counters which are not single numbers
_OF_DATABASES = {  # Status.gauges
    "wal_bytes": "Of the largest WAL among its databases.",
    "stuck_seconds": "For so long databases are written and the store has received nothing; 0: it receives.",
    "unstreamed": "Databases in litestream mode which are saved as snapshots, since their app does not use WAL mode.",
}
KIND = "text/plain; version=0.0.4; charset=utf-8"


class Reading(Struct, frozen=True, kw_only=True):
    """Input of one scrape: taken on the loop, rendered in a thread."""

    overview: Overview
    requests: dict[tuple[str, str], int]  # (tenant, "2xx") → number
    sums: dict[str, float]  # of Counters
    cache: dict[str, int]  # of Counters
    now: float  # Unix time
    resident: int  # bytes


async def scrape(overview: Overview, counters: Counters) -> bytes:
    reading = Reading(
        overview=overview,
        requests=by_class(counters.requests),
        sums={name: getattr(counters, name) for name in counters.__dataclass_fields__ if name not in _BY_NAME}
        | {"sent_bytes": counters.sent_bytes},
        cache=dict(counters.cache),
        now=time(),
        resident=measure_work.resident_of_this_process(),
    )
    return await asyncio.to_thread(render, reading)


def render(reading: Reading) -> bytes:
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(reading))
    return generate_latest(registry)


def by_class(requests: dict[tuple[str, int], int]) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    for (tenant, status), number in requests.items():
        found[tenant, f"{status // 100}xx"] += number
    return found


class _Collector:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterator["Metric"]:
        yield from _of_requests(self._reading)
        yield from _of_tenants(self._reading)
        yield from _of_drills(self._reading)
        yield from _of_daemon(self._reading)


def _of_requests(reading: Reading) -> Iterator["Metric"]:
    sums = reading.sums
    labelled = [((tenant, status), float(number)) for (tenant, status), number in reading.requests.items()]
    yield _counter("requests", "Requests answered.", labelled, "tenant", "status")
    yield _counter("request_seconds", "Time spent on requests, in all.", [((), sums["seconds"])])
    yield _counter("sent_bytes", "Octets sent to clients, with heads.", [((), sums["sent_bytes"])])
    yield _counter("cold_starts", "Requests that waited for an app to start.", [((), sums["cold"])])
    yield _counter("cold_start_seconds", "Time which those waited, in all.", [((), sums["cold_seconds"])])
    yield _counter("refused", "Malformed requests: 400, 408, 413, 431.", [((), sums["refused"])])
    kinds = [((kind,), float(number)) for kind, number in reading.cache.items()]
    yield _counter("cache_requests", "Requests and responses by result in the cache.", kinds, "kind")
    yield _gauge("cache_bytes", "Memory of cached responses now.", [((), sums["cache_bytes"])])
    yield _gauge("cache_entries", "Responses which are cached now.", [((), sums["cache_entries"])])
    yield _gauge("requests_in_flight", "Requests being served now.", [((), sums["in_flight"])])
    yield _gauge("tunnels", "WebSockets and the like open now.", [((), sums["tunnels"])])


def _of_tenants(reading: Reading) -> Iterator["Metric"]:
    tenants = reading.overview.tenants
    states = Counter(one.state for one in tenants)
    alive = [one for one in tenants if one.starts]
    yield _gauge("tenants", "Tenants by state.", [((state.value,), states[state]) for state in State], "state")
    yield _counter("app_starts", "Starts of the app.", [((one.tenant,), one.starts) for one in alive], "tenant")
    yield _counter(
        "app_crashes", "Unexpected ends of the app.", [((one.tenant,), one.crashes) for one in alive], "tenant"
    )
    unsaved = [((one.tenant,), float(one.unsaved)) for one in tenants if one.starts or one.unsaved]
    yield _gauge("tenant_unsaved", "1: the local copy may have unsaved data.", unsaved, "tenant")
    ages = [((one.tenant,), age) for one in tenants if (age := _save_age(one, reading.now)) is not None]
    yield _gauge("tenant_save_age_seconds", "Since the last save which the store confirmed.", ages, "tenant")

    running = [one for one in tenants if one.lag is not None]
    lags = [((one.tenant,), one.lag or 0.0) for one in running]
    yield _gauge("tenant_lag_seconds", "Since the store had everything; 0: it has.", lags, "tenant")
    sizes = [((one.tenant,), float(one.size or 0)) for one in running]
    yield _gauge("tenant_database_bytes", "Of the local databases.", sizes, "tenant")
    renewed = [((one.tenant,), float(len(one.renewed))) for one in tenants if one.starts]
    yield _gauge("tenant_renewed", "Databases which litestream had to send again in full.", renewed, "tenant")
    for name, text in _OF_DATABASES.items():
        values = [((one.tenant,), one.gauges[name]) for one in running if name in one.gauges]
        yield _gauge(f"tenant_{name}", text, values, "tenant")
    alarms = [((one.tenant,), float(len(one.alarms) + len(one.overlooked))) for one in running]
    yield _gauge("tenant_alarms", "What is wrong with its databases; flyatc status says what.", alarms, "tenant")
    epochs = [((one.tenant,), float(one.epoch)) for one in running if one.epoch is not None]
    yield _gauge("tenant_epoch", "Epoch of the user's lease: one more for each new holder.", epochs, "tenant")


def _of_drills(reading: Reading) -> Iterator["Metric"]:
    verified = reading.overview.verified
    if verified is None:
        return
    bad = Counter(one.state for one in verified.bad)
    states = [((state,), float(bad[state])) for state in ("damaged", "unknown")]
    yield _gauge("verified_databases", "Databases of the store which storage.verify knows.", [((), verified.databases)])
    yield _gauge("verified_bad", "Databases whose test restore failed, or was not possible.", states, "state")
    damaged = [((), float(verified.damaged))]
    yield _counter("verified_damaged", "Copies in the store found damaged by storage.verify.", damaged)
    healed = [((), float(verified.healed))]
    yield _counter("verified_healed", "Of those, replaced at once by a new copy of the local file.", healed)
    if verified.first is not None:
        age = max(0.0, reading.now - datetime.fromisoformat(verified.first).timestamp())
        yield _gauge("verified_age_seconds", "Age of the oldest test restore.", [((), age)])


def _of_daemon(reading: Reading) -> Iterator["Metric"]:
    daemon = reading.overview.daemon
    started = datetime.fromisoformat(daemon.started).timestamp()
    yield _gauge("apps_running", "Apps which run now.", [((), daemon.running)])
    yield _gauge("apps_limit", "limits.running.", [((), daemon.limit)])
    yield _gauge("resident_memory_bytes", "Memory of the daemon itself.", [((), reading.resident)])
    yield _gauge("uptime_seconds", "Since the daemon started.", [((), max(0.0, reading.now - started))])


Samples = Iterable[tuple[tuple[str, ...], float]]


def _counter(name: str, text: str, samples: Samples, *labels: str) -> "Metric":
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"flyatc_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, samples: Samples, *labels: str) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"flyatc_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _save_age(one: Status, now: float) -> float | None:
    return None if one.saved_at is None else max(0.0, now - datetime.fromisoformat(one.saved_at).timestamp())
