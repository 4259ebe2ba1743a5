"""Litestream settings of storage."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from flyatc.config.document import compose
from flyatc.config.errors import ConfigError, Faults
from flyatc.config.parse import parse
from flyatc.config.resolve import resolve
from flyatc.config.schema import Storage

BUCKET = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}


class NoDisk:
    def text(self, path: Path, most: int) -> str | None:
        return None

    def runs(self, path: Path) -> bool:
        return True

    def is_directory(self, path: Path) -> bool:
        return True

    def readable_size(self, path: Path) -> int | None:
        return None


def storage(text: str, environ: Mapping[str, str] = BUCKET) -> Storage:
    root = compose(f"storage: {text}\napp: {{command: [run]}}\nusers: {{a: }}", "tenants.yaml")
    faults = Faults("tenants.yaml", root)
    config = resolve(parse(root, faults), Path("/srv/site/tenants.yaml"), environ, NoDisk(), faults)
    faults.raise_if_any()
    return config.storage


def test_paths_are_relative_to_the_file_and_keys_are_as_they_are() -> None:
    found = storage("{mode: litestream, litestream: bin/litestream, replica: 'file:old/{user}'}")
    assert (found.litestream, found.replica) == ("/srv/site/bin/litestream", "file:/srv/site/old/{user}")
    assert (
        storage("{mode: litestream, replica: '/customer/{user}/{database}'}").replica == "/customer/{user}/{database}"
    )
    assert storage("{mode: litestream, replica: 's3://b-1/{user}'}").replica == "s3://b-1/{user}"


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("{litestream: x}", "storage.litestream: is for litestream mode: this is snapshot"),
        ("{mode: none, replica: x}", "storage.replica: is for litestream mode: this is none"),
        (
            "{mode: litestream, replica: '{name}/x'}",
            "{name} is not a placeholder: known are {user} {tenant} {database}",
        ),
        ("{mode: litestream, replica: 's3://b'}", "names no bucket"),
        ("{mode: litestream, replica: 's3://bucket'}", "names no path in its bucket"),
        ("{mode: litestream, replica: 'gs://bucket/x'}", "is neither s3://BUCKET/PATH, file:FOLDER nor a plain key"),
        ("{mode: litestream, replica: a//b}", "is neither s3://BUCKET/PATH, file:FOLDER nor a plain key"),
        ("{mode: litestream, replica: ../b}", "is neither s3://BUCKET/PATH, file:FOLDER nor a plain key"),
    ],
)
def test_settings_that_cannot_be_meant_are_reported(text: str, reported: str) -> None:
    with pytest.raises(ConfigError, match=None) as caught:
        storage(text)
    assert reported in str(caught.value)
