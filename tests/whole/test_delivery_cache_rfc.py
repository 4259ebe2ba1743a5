"""``delivery.cache.mode: rfc`` of one user beside ``assets`` of another, through the daemon."""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from whole.daemon import Daemon
from whole.visits import Reply, get, serving

RANGES = json.dumps([sys.executable, "-S", str(Path(__file__).parents[1] / "apps" / "ranges.py")])
BODY = b"".join(b"<p>paragraph %04d of a page</p>\n" % n for n in range(1000))
CONFIG = f"""
server: {{listen: "127.0.0.1:0"}}
app: {{command: {RANGES}, idle: 1h, stop_grace: 2s}}
storage: {{mode: none}}
users: {{ann: {{delivery: {{cache: {{mode: rfc}}}}}}, bob: null}}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("rfc"), CONFIG) as one:
        yield one


def reported(reply: Reply) -> tuple[int, str | None]:
    return reply.status, reply.one("x-cache")


def count(daemon: Daemon, user: str = "ann") -> int:
    return int(get(daemon, f"/{user}/count").body)


def part(daemon: Daemon, first: int, last: int, *lines: str, user: str = "ann", name: str = "page") -> Reply:
    reply = get(daemon, f"/{user}/{name}", f"Range: bytes={first}-{last}", *lines)
    assert reply.body == BODY[first : last + 1]
    assert reply.one("content-range") == f"bytes {first}-{last}/{len(BODY)}"
    assert reply.one("content-length") == str(len(reply.body))
    return reply


def test_parts_are_joined_and_become_a_whole_that_is_compressed(daemon: Daemon) -> None:
    before, size, zipped = count(daemon), len(BODY), "Accept-Encoding: gzip"
    assert reported(part(daemon, 10_000, 19_999)) == (206, "miss")
    assert reported(part(daemon, 12_000, 12_999, zipped)) == (206, "hit")
    assert reported(part(daemon, 20_000, size - 1)) == (206, "miss")
    assert reported(part(daemon, 15_000, 25_000)) == (206, "hit")
    assert reported(part(daemon, 0, 9_999, zipped)) == (206, "miss")
    whole = get(daemon, "/ann/page")
    assert (reported(whole), whole.body) == ((200, "hit"), BODY)
    packed = get(daemon, "/ann/page", zipped)
    assert (reported(packed), packed.one("content-encoding")) == ((200, "hit"), "gzip")
    assert gzip.decompress(packed.body) == BODY
    assert reported(part(daemon, 0, size - 1)) == (206, "hit")
    assert count(daemon) == before + 3


def test_a_page_with_nothing_but_a_date_is_cached_for_clients_without_cookies(daemon: Daemon) -> None:
    assert [reported(get(daemon, "/ann/old")) for _ in range(3)] == [(200, "miss"), (200, "hit"), (200, "hit")]
    assert reported(get(daemon, "/ann/old", "Cookie: a=1")) == (200, "miss")


def test_an_error_with_explicit_freshness_is_cached(daemon: Daemon) -> None:
    assert [reported(get(daemon, "/ann/gone")) for _ in range(2)] == [(500, "miss"), (500, "hit")]


def test_the_other_user_has_the_default_mode(daemon: Daemon) -> None:
    for name in ("old", "gone"):
        assert [get(daemon, f"/bob/{name}").one("x-cache") for _ in range(2)] == ["miss", "miss"]
    assert [reported(part(daemon, 0, 9, user="bob")) for _ in range(2)] == [(206, "bypass"), (206, "bypass")]
