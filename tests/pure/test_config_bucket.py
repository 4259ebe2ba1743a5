"""The bucket that the file and the environment name, and the faults of both."""

from pathlib import Path

import pytest

from flyatc.config.check_sections import Bucket, bucket_of, environment_faults, url_faults
from flyatc.config.document import compose
from flyatc.config.errors import ConfigError, Faults
from flyatc.config.load import RealDisk
from flyatc.config.parse import parse
from flyatc.config.resolve import resolve
from flyatc.config.schema import Storage

KEYS = {"AWS_ACCESS_KEY_ID": "tid_x", "AWS_SECRET_ACCESS_KEY": "tsec_x"}
FLY = {**KEYS, "AWS_ENDPOINT_URL_S3": "https://fly.storage.tigris.dev", "AWS_REGION": "auto", "BUCKET_NAME": "ours"}


def storage(section: str, environ: dict[str, str]) -> Storage:
    root = compose(f"app: {{command: [run], directory: /}}\nusers: {{a: }}\nstorage: {section}", "tenants.yaml")
    faults = Faults("tenants.yaml", root)
    config = resolve(parse(root, faults), Path("/srv/site/tenants.yaml"), environ, RealDisk(), faults)
    faults.raise_if_any()
    return config.storage


def test_the_variables_which_fly_sets_are_enough() -> None:
    url = storage("{}", FLY).url
    assert url == "s3://ours"
    bucket = bucket_of(url, FLY)
    assert bucket == Bucket("ours", "", "https://fly.storage.tigris.dev", "auto")
    assert bucket.on_tigris
    assert bucket.place == "https://fly.storage.tigris.dev"


def test_what_the_file_says_wins_over_the_environment() -> None:
    assert storage("{url: 's3://mine/a/b/'}", FLY).url == "s3://mine/a/b/"
    assert bucket_of("s3://mine/a/b/", FLY).prefix == "a/b/"
    assert storage("{url: 'file:./store'}", FLY).url == "file:/srv/site/store"


def test_without_a_bucket_or_without_a_store_it_is_the_folder() -> None:
    assert storage("{}", KEYS).url == "file:/srv/site/store"
    assert storage("{mode: none}", FLY).url == "file:/srv/site/store"
    assert storage("{mode: none, url: 's3://mine'}", {}).url == "s3://mine"


def test_a_bucket_of_amazons_own_needs_no_endpoint() -> None:
    bucket = bucket_of("s3://ours", {**KEYS, "AWS_DEFAULT_REGION": "eu-central-1"})
    assert (bucket.endpoint, bucket.region, bucket.on_tigris) == (None, "eu-central-1", False)
    assert bucket.place == "Amazon S3 (eu-central-1)"
    assert bucket_of("s3://ours", KEYS).region == "us-east-1"


def test_the_endpoint_of_s3_wins_over_that_of_all_services() -> None:
    both = {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b:9000/"}
    assert bucket_of("s3://ours", both).endpoint == "http://b:9000"
    assert bucket_of("s3://ours", {"AWS_ENDPOINT_URL": "http://a"}).endpoint == "http://a"


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        ({}, "AWS_ACCESS_KEY_ID: is not set, and a bucket needs it"),
        ({**FLY, "AWS_SECRET_ACCESS_KEY": " "}, "AWS_SECRET_ACCESS_KEY: is not set, and a bucket needs it"),
        ({**FLY, "AWS_ENDPOINT_URL_S3": "t3.storage.dev"}, "AWS_ENDPOINT_URL_S3: 't3.storage.dev' is not an address"),
        ({**FLY, "AWS_ENDPOINT_URL_S3": "http://a:b"}, "AWS_ENDPOINT_URL_S3: 'http://a:b' is not an address"),
        ({**FLY, "AWS_ENDPOINT_URL": "https://a/b"}, "AWS_ENDPOINT_URL: 'https://a/b' is not an address"),
        ({**FLY, "AWS_REGION": "Frankfurt (de)"}, "AWS_REGION: 'Frankfurt (de)' is not a region: write auto"),
    ],
)
def test_a_missing_variable_is_reported_by_its_name(environ: dict[str, str], fault: str) -> None:
    assert any(f"{name}: {message}".startswith(fault) for name, message in environment_faults(environ))


def test_all_faults_of_file_and_environment_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        storage("{url: 's3://x', keep: 3}", {"AWS_ENDPOINT_URL_S3": "nowhere"})
    reported = str(caught.value).split("\n")
    assert sorted(line.partition(" is ")[0].partition(" names")[0] for line in reported) == [
        "environment: AWS_ACCESS_KEY_ID:",
        "environment: AWS_ENDPOINT_URL_S3: 'nowhere'",
        "environment: AWS_SECRET_ACCESS_KEY:",
        "tenants.yaml:3: storage.url: 's3://x'",
    ]


def test_an_invalid_bucket_name_is_reported_as_the_variables_fault() -> None:
    with pytest.raises(ConfigError, match="environment: BUCKET_NAME: 'a b' is not the name of a bucket"):
        storage("{}", {**FLY, "BUCKET_NAME": "a b"})


@pytest.mark.parametrize(
    "url", ["s3://", "s3://ab", "s3://a.b-c9/", "s3://UP", "s3://abc/../x", "s3://abc/a b", "s3://abc/é"]
)
def test_only_plain_names_become_buckets_and_prefixes(url: str) -> None:
    assert bool(list(url_faults(url))) == (url != "s3://a.b-c9/")
