"""Keys of the store to lines; settings and environment to replica URLs."""

from pathlib import Path

import pytest

from flyatc.config.schema import App, Storage, Tenant
from flyatc.databases import transfer
from flyatc.databases.decisions.version_choice import ROUNDED, Picked, SavedVersion
from flyatc.databases.litestream import client, replica_layout
from flyatc.databases.litestream.replica_layout import Addresses, Line
from flyatc.databases.manifest import Position
from flyatc.objects.store import Stored

TENANT = Tenant(user="100", name="", prefix="/100", data=Path("/data/100"), app=App())
OWN = "users/100/~/queue~jobs.db/"


def stored(key: str, size: int = 10, modified: float = 5.0) -> Stored:
    return Stored(f"{OWN}{key}", size, "", modified)


def test_files_and_buckets_name_their_levels_differently_and_both_are_read() -> None:
    found = replica_layout.read(
        [
            stored("e000012/ltx/0/0000000000000001-0000000000000001.ltx", modified=3.0),
            stored("e000012/ltx/1/0000000000000001-000000000000001f.ltx", modified=4.0),
            stored("e000012/ltx/0/0000000000000020-0000000000000020.ltx.tmp"),
            stored("e000003/0009/0000000000000001-0000000000000002.ltx"),
            stored("current.json"),
            stored("000001-000000001.sqlite3.zst"),
        ],
        OWN,
    )
    assert found.found == (Line(3, 2, 10, 5.0, 5.0, whole=10), Line(12, 31, 20, 3.0, 4.0, whole=10))
    assert found.strange == ()
    assert found.last == found.found[1]


@pytest.mark.parametrize(
    ("url", "name", "fault"),
    [
        ("file:/data/store", "a!$&'()*+,;=:@[1]-_.~z.db", None),
        ("file:/data/store", "a b.db", "a b.db has a ' '"),
        ("file:/home/jürgen", "a.db", "file:/home/jürgen has a 'ü'"),
        ("s3://bucket", "für Anna.db", None),
        ("s3://bucket", "50%.db", "50%.db has a '%'"),
    ],
)
def test_what_litestream_would_write_elsewhere_is_not_streamed(url: str, name: str, fault: str | None) -> None:
    found = Addresses(Storage(mode="litestream", url=url), {}).fault(name)
    assert found is None if fault is None else found is not None and found.startswith(fault)


def test_a_transaction_that_no_file_of_the_line_has_is_found() -> None:
    there = [
        stored("e000012/ltx/1/0000000000000001-0000000000000004.ltx"),
        stored("e000012/ltx/0/0000000000000003-0000000000000003.ltx"),
        stored("e000012/ltx/0/0000000000000006-0000000000000006.ltx"),
        stored("e000012-01/ltx/0/0000000000000005-0000000000000005.ltx"),
    ]
    for after, until, lacking in ((0, 4, None), (3, 4, None), (3, 6, 5), (0, 6, 5), (5, 6, None), (6, 7, 7)):
        assert replica_layout.lacking(there, OWN, after, Position(12, 0, until)) == lacking


def test_files_that_are_not_litestreams_are_reported() -> None:
    assert replica_layout.read([stored("e000001/generations/x")], OWN).strange == (f"{OWN}e000001/generations/x",)
    assert replica_layout.read([], OWN).last is None


def test_a_time_is_looked_for_in_the_newest_line_that_had_begun() -> None:
    found = replica_layout.Lines((Line(1, 1, 1, 10.0, 20.0), Line(2, 1, 1, 30.0, 40.0), Line(3, 1, 1, 50.0, 60.0)))
    assert [(line.number, at) for line, at in replica_layout.at(found, 35.0)] == [(2, 35.0 + ROUNDED), (1, None)]
    assert [(line.number, at) for line, at in replica_layout.at(found, 45.0)] == [(2, None), (1, None)]
    assert [(line.number, at) for line, at in replica_layout.at(found, 39.0)][:2] == [(2, 39.0 + ROUNDED), (2, None)], (
        "clocks differ"
    )
    assert [line.number for line, _ in replica_layout.at(found, 50.0 - ROUNDED / 2)] == [3, 2, 1], "shown of line 3"
    assert replica_layout.at(found, 5.0) == []


def test_a_folder_is_a_file_url_as_it_is() -> None:
    addresses = Addresses(Storage(url="file:/srv/my store"), {})
    assert addresses.of_line(TENANT, "queue/jobs.db", 7) == f"file:///srv/my store/{OWN}e000007"


def test_a_bucket_has_the_endpoint_and_the_region_of_the_environment() -> None:
    environ = {"AWS_ENDPOINT_URL_S3": "https://fly.storage.tigris.dev", "AWS_REGION": "auto"}
    addresses = Addresses(Storage(url="s3://bucket/pre/fix"), environ)
    assert addresses.of_line(TENANT, "a.db", 7) == (
        "s3://bucket/pre/fix/users/100/~/a.db/e000007?region=auto"
        "&endpoint=https%3A%2F%2Ffly.storage.tigris.dev&force-path-style=true"
    )
    assert Addresses(Storage(url="s3://bucket"), {"AWS_REGION": "eu-west-1"}).of_key("x/y") == (
        "s3://bucket/x/y?region=eu-west-1"
    )
    assert addresses.of_url("s3://other/path").startswith("s3://other/path?region=auto&endpoint=")


@pytest.mark.parametrize("text", ["/a%20b", "/a?b", "/a#b"])
def test_a_path_which_litestream_would_misread_is_reported(text: str) -> None:
    assert replica_layout.path_fault(text) is not None
    assert replica_layout.path_fault("/a b/ä~.db") is None


def test_the_words_of_a_template_are_put_in() -> None:
    assert transfer.fill("db/{user}/{tenant}/{database}", TENANT, "a.db") == "db/100//a.db"


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ('{"level":"ERROR","msg":"no databases specified in configuration"}', []),
        ('{"time":"x","level":"WARN","msg":"slow","db":"a"}', [("warning", "slow", {"db": "a"})]),
        ('{"level":"INFO","msg":"compaction"}', [("debug", "compaction", {})]),
        ('{"level":"INFO","msg":"a","message":"b","level ":1}', [("debug", "a", {"message": "b", "level ": 1})]),
        ("panic: oh", [("warning", "panic: oh", {})]),
        ("", []),
    ],
)
def test_its_words_keep_their_level(line: str, reported: list[tuple[str, str, dict[str, object]]]) -> None:
    heard: list[tuple[str, str, dict[str, object]]] = []

    class Ear:
        def event(self, level: str, message: str, /, **fields: object) -> None:
            assert fields.pop("source") == "litestream"
            heard.append((level, message, fields))

    client.Relay(Ear()).hear("stderr", line)
    assert heard == reported


def test_a_renewal_of_a_line_is_a_line_of_its_own_and_comes_behind_it() -> None:
    one = "0000000000000001-0000000000000001.ltx"
    found = replica_layout.read(
        [stored(f"{name}/ltx/0/{one}") for name in ("e000005-02", "e000006", "e000005", "e000005-10")], OWN
    )
    assert [line.name for line in found.found] == ["e000005", "e000005-02", "e000005-10", "e000006"]
    assert [str(line.position) for line in found.found][1] == "e000005-02:1"
    assert found.strange == ()


def test_the_file_of_a_transaction_is_named_as_litestream_names_it() -> None:
    position = Position(5, 1, 0x1F)
    name = "000000000000001f-000000000000001f.ltx"
    assert replica_layout.file_of(position, bucket=True) == f"e000005-01/0000/{name}"
    assert replica_layout.file_of(position, bucket=False) == f"e000005-01/ltx/0/{name}"


def test_what_was_saved_last_before_a_moment_is_looked_at_first() -> None:
    line = Line(1, 1, 1, 10.0, 20.0)
    found = replica_layout.Lines((line,))
    early, late = SavedVersion("000001-000000001.sqlite3.zst", 15.0), SavedVersion("000001-000000002.sqlite3.zst", 30.0)
    assert replica_layout.places_at(found, [early, late], 16.0)[0] == (line, 16.0 + ROUNDED), "a line is exact"
    assert isinstance(replica_layout.places_at(found, [early, late], 40.0)[0], Picked)
    assert replica_layout.places_at(found, [early], 40.0)[0] == (line, None)
    assert replica_layout.places_at(found, [early, late], 5.0) == []
