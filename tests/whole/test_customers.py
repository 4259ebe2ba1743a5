"""examples/customers on a small Fly with three machines: the addresses, answers and data of js-sqlite-in-tigris.

That app's own test was a browser: what it answers is reported in its README, and by running it."""

import re
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fakes.fly import Reported
from fakes.s3 import Server
from whole.simulated import Sim, running

CONFIG = Path(__file__).parents[2] / "examples" / "customers" / "tenants.yaml"
KEY = "/customer/200/db.sqlite3"  # the slash is the key's own

pytestmark = [pytest.mark.needs(what) for what in ("node", "express", "sqlite3")]


@pytest.fixture(scope="module")
def bucket(moto_server: Server) -> str:
    return moto_server.bucket()


@pytest.fixture(scope="module")
def fly(tmp_path_factory: pytest.TempPathFactory, moto_server: Server, bucket: str) -> Iterator[Sim]:
    """Machines m1, m2, m3 of the customers 100, 200, 300. Visitors come in at m1. 200's counter is at 41."""
    folder = tmp_path_factory.mktemp("customers")
    moto_server.client.put_object(Bucket=bucket, Key=KEY, Body=counter(folder / "theirs.sqlite3", 41))
    with running(folder, CONFIG, 3, moto_server.environ(bucket)) as one:
        yield one


def counter(path: Path, count: int) -> bytes:
    """A database as that app makes it."""
    with sqlite3.connect(path) as database:
        database.execute('CREATE TABLE "welcome" ( "count" INTEGER )')
        database.execute('INSERT INTO "welcome" VALUES (?)', (count,))
    database.close()
    return path.read_bytes()


def count(answer: Reported) -> int:
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    found = re.search(rb"<output>(\d+)</output>", answer.body)
    assert found is not None
    return int(found[1])


def test_a_customers_page_counts_at_every_form_of_its_address(fly: Sim) -> None:
    first = count(fly.visit("/customers/100"))
    assert count(fly.visit("/customers/100/")) == first + 1
    assert count(fly.visit("/customers/100?x=1")) == first + 2
    head = fly.visit("/customers/100", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert count(fly.visit("/customers/100")) == first + 4, "HEAD counts as GET does"


def test_the_other_machines_customers_are_replayed_to_them(fly: Sim) -> None:
    machines = fly.ids()
    for customer, name in (("200", "m2"), ("300", "m3")):
        assert count(fly.visit(f"/customers/{customer}"))
        fly.until_reported(f"GET /customers/{customer}  m1 replays: instance={machines[name]} ")
        assert (fly.folder / ".flyatc-sim" / name / "data" / "tenants" / customer).is_dir()
        assert not (fly.folder / ".flyatc-sim" / "m1" / "data" / "tenants" / customer).exists()


def test_the_counter_in_the_bucket_goes_on_and_the_object_stays(fly: Sim, moto_server: Server, bucket: str) -> None:
    assert count(fly.visit("/customers/200")) >= 42
    kept = moto_server.client.get_object(Bucket=bucket, Key=KEY)["Body"].read()
    assert kept == (fly.folder / "theirs.sqlite3").read_bytes()


@pytest.mark.parametrize("path", ["/customers/400", "/customers", "/customers/", "/", "/customers/100/more"])
def test_what_is_no_customers_page_is_not_found(fly: Sim, path: str) -> None:
    assert fly.visit(path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_not_found_and_do_not_count(fly: Sim, method: str) -> None:
    """The one app answered so without a replay; here the customer's own machine does."""
    before = count(fly.visit("/customers/300"))
    assert fly.visit("/customers/300", method).status == 404
    fly.until_reported(f"{method} /customers/300  m1 replays: instance={fly.ids()['m3']} ")
    assert count(fly.visit("/customers/300")) == before + 1


@pytest.mark.parametrize("customer", ["@1.2.3.4", "-v", "1%2F2", "-x1.2.3.4"])
def test_what_is_no_name_is_not_found_and_never_looked_up(fly: Sim, customer: str) -> None:
    assert fly.visit(f"/customers/{customer}").status == 404
    fly.until_reported(f"GET /customers/{customer}  m1 404")
    assert not [line for line in fly.out.read_text().splitlines() if line.startswith("dns") and "customer_id" in line
                and not re.search(r" [1-4]00\.customer_id\.", line)]  # fmt: skip


def test_no_visit_of_many_at_once_is_lost(fly: Sim) -> None:
    before = count(fly.visit("/customers/300"))
    with ThreadPoolExecutor(10) as pool:
        counts = list(pool.map(lambda _: count(fly.visit("/customers/300")), range(40)))
    assert sorted(counts) == list(range(before + 1, before + 41))


def test_the_counter_goes_on_after_a_stop_and_the_loss_of_the_disk(fly: Sim) -> None:
    before = count(fly.visit("/customers/200"))
    assert fly.cli("stop", "m2").returncode == 0
    shutil.rmtree(fly.folder / ".flyatc-sim" / "m2" / "data")
    assert count(fly.visit("/customers/200")) == before + 1
    fly.until_reported("→  wakes m2 (stopped)  →  m2 200")
