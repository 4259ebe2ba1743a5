"""The public tests of HTTP caches (https://cache-tests.fyi), in both modes, against flyatc as a process.

``make cache-tests`` runs them alone and prints the figures. npm fetches them. A case that fails on purpose is listed
here with its reason, and in docs/http.md.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import network_namespace
from slowness import SLOWNESS
from whole.wrapped import wrapped

SUITE = Path(__file__).parents[1] / "cache_suite"
VERSION = json.loads((SUITE / "package.json").read_text())["dependencies"]["http-cache-tests"]
MODES = ("assets", "rfc")
CASES = {"required": 157, "optimal": 86}
LEAST = {"assets": {"required": 141, "optimal": 58}, "rfc": {"required": 141, "optimal": 77}}

INVALID_AGE = "an invalid Age is ignored (RFC 9111 §5.1); the suite wants the response to be stale"
SEVERAL_AGES = "of several ages the first one counts (RFC 9111 §5.1); the suite wants the response to be stale"
NO_RESPONSE = "the origin sends no response; the suite wants a header of it in the 502"
COOKIE = "a response with Set-Cookie is only stored with public, and without the cookie"
WRONG_PART = "the Content-Range announces six octets, the body has five"
ERROR = "errors other than 404 and 410 are not stored in mode assets: a mistake would last"
GUESS = "nothing is guessed in mode assets: only what the app says may be stored is"
LANGUAGE = "Accept-Language is not normalized in mode assets: apps may heed its order"

ON_PURPOSE = {
    **dict.fromkeys(
        (
            "age-parse-float", "age-parse-negative", "age-parse-nonnumeric", "age-parse-numeric-parameter",
            "age-parse-parameter",
        ),
        INVALID_AGE,
    ),
    **dict.fromkeys(
        ("age-parse-dup-0", "age-parse-dup-0-twoline", "age-parse-dup-old", "age-parse-prefix-twoline"), SEVERAL_AGES
    ),
    **dict.fromkeys(
        (
            "stale-close-must-revalidate", "stale-close-no-cache", "stale-close-proxy-revalidate",
            "stale-close-s-maxage=2",
        ),
        NO_RESPONSE,
    ),
    **dict.fromkeys(("headers-store-Set-Cookie", "304-etag-update-response-Set-Cookie", "other-set-cookie"), COOKIE),
    "headers-store-Transfer-Encoding": "a body in an unknown transfer coding has no known end: 502 (RFC 9112 §6.1)",
    **dict.fromkeys(
        (
            "partial-store-partial-reuse-partial", "partial-store-partial-reuse-partial-absent",
            "partial-store-partial-reuse-partial-byterange", "partial-store-partial-reuse-partial-suffix",
        ),
        WRONG_PART,
    ),
    "partial-store-partial-complete": "without a strong ETag parts are not joined (RFC 9111 §3.4)",
    "conditional-lm-fresh-no-lm": "the client's date is older than the response: it may have changed since",
    "method-POST": "responses to POST are not stored",
    "vary-normalise-lang-select": "only the app knows which language it would choose for another list",
}  # fmt: skip
IN_ASSETS = {
    **{f"status-{status}-fresh": ERROR for status in (299, 400, 499, 500, 502, 503, 504, 599)},
    **{f"heuristic-{status}-cached": GUESS for status in (200, 203, 204, 404, 405, 410, 414, 501, 599)},
    **dict.fromkeys(("vary-normalise-lang-case", "vary-normalise-lang-order"), LANGUAGE),
}
WANTED = {"assets": ON_PURPOSE | IN_ASSETS, "rfc": ON_PURPOSE}

pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(240)]


def install() -> None:
    """Fetch the suite, unless it is there. Skips where it cannot be had; fails with CI=true."""
    installed = SUITE / "node_modules" / "http-cache-tests" / "package.json"
    if installed.exists() and json.loads(installed.read_text())["version"] == VERSION:
        return
    try:
        command = [*network_namespace.outside(), "npm", "ci", "--silent"]
        done = subprocess.run(command, cwd=SUITE, capture_output=True, timeout=120 * SLOWNESS, check=False)
        reason = done.stderr.decode()[-200:] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if reason or not installed.exists():
        reason = f"npm ci in tests/cache_suite could not fetch http-cache-tests {VERSION}: {reason}"
        pytest.fail(reason, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip(reason)


def start(port: int, *cases: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["node", "--no-warnings", "run.mjs", f"http://127.0.0.1:{port}", *cases], cwd=SUITE, stdout=subprocess.PIPE
    )


def result(run: subprocess.Popen[bytes]) -> dict[str, Any]:
    try:
        output, _ = run.communicate(timeout=60 * SLOWNESS)
    finally:
        run.kill()
        run.wait()
    found: dict[str, Any] = json.loads(output)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """The results of both modes, which run at the same time: the suite mostly waits. Its times are fixed (2 s of
    freshness), so what differs from the list is tried again alone: a busy machine may have been too slow."""
    install()
    with contextlib.ExitStack() as stack:
        app = ("node", str(SUITE / "origin.mjs"))
        ports = {}
        for mode in MODES:
            env = {"CACHE_MODE": mode, "LOG_REQUESTS": "0"}
            ports[mode] = stack.enter_context(wrapped(tmp_path_factory.mktemp(mode), *app, env=env)).port
        runs = {mode: start(port) for mode, port in ports.items()}
        results = {mode: result(run) for mode, run in runs.items()}
        for mode, port in ports.items():
            odd = failed(results[mode]) ^ WANTED[mode].keys()
            if odd & results[mode].keys():
                results[mode] |= result(start(port, *sorted(odd)))
        yield results


def failed(results: dict[str, Any]) -> set[str]:
    return {case for case, one in results.items() if one["kind"] != "check" and one["result"] is not True}


@pytest.mark.parametrize("mode", MODES)
def test_what_fails_is_what_fails_on_purpose(found: dict[str, dict[str, Any]], mode: str) -> None:
    results = found[mode]
    assert {case: results[case]["result"] for case in failed(results) - WANTED[mode].keys()} == {}
    assert sorted(WANTED[mode].keys() - failed(results)) == []  # passes by now: take it off the list
    for kind, number in CASES.items():
        of_kind = {case for case, one in results.items() if one["kind"] == kind}
        passed = len(of_kind - failed(results))
        print(f"http-cache-tests {VERSION}, mode {mode}: {kind} {passed} of {len(of_kind)}")
        assert (len(of_kind), passed) == (number, LEAST[mode][kind])


def test_the_document_has_every_case_that_fails_on_purpose() -> None:
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    assert sorted(case for case in WANTED["assets"] if f"`{case}`" not in text) == []
