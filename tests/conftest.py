"""Helpers for what all lanes share. Its place makes ``tests/`` importable: ``from fakes.stage import Stage``."""

import asyncio
import functools
import gc
import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
import pytest_timeout
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

import distribution
import fork_server
import leftovers
import network_namespace
from slowness import SLOWNESS

pytest_plugins = ["fakes.s3"]  # one S3 of each kind for the whole session, started by the first who asks
PACKAGES = {  # what Debian has them in; .ci/run installs them
    "puma": "puma",
    "node": "nodejs",
    "dig": "bind9-dnsutils",
    "express": "node-express",
    "sqlite3": "node-sqlite3",
    "php": "php-cli",
    "php-sqlite": "php-sqlite3",
    "laravel": "php-laravel-framework",
    "rails": "ruby-rails",
    "ruby-sqlite": "ruby-sqlite3",
    "gem": "ruby",
    "bundle": "ruby-bundler",
    "cc": "gcc",
    "chromedriver": "chromium-driver",
}
PROBES = {
    "laravel": ["php", "-r", "require 'Illuminate/autoload.php';"],
    "php-sqlite": ["php", "-r", "exit(extension_loaded('pdo_sqlite') ? 0 : 1);"],
    "rails": ["ruby", "-e", "require 'action_controller/railtie'"],
    "ruby-sqlite": ["ruby", "-e", "require 'sqlite3'"],
}
LEFT = pytest.StashKey[list[leftovers.Leftover]]()
ROOT = Path(__file__).parents[1]
MODULES = ("express", "sqlite3")  # of Node; npm install in this example will do as well:
EXAMPLE = ROOT / "examples" / "customers"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(what): skipped where it is not installed; a program fails with CI=true instead"
    )
    if hasattr(config, "workerinput"):
        network_namespace.enter()
    else:
        leftovers.mark_session()
    # A busy machine is no fault of a property.
    settings.register_profile("flyatc", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("flyatc")
    # Else pytest-asyncio, asking for the current loop after a test without one, has asyncio make a loop no one closes.
    asyncio.set_event_loop(None)
    # Started in the background, or by nohup, we would hand on to every child that it shall ignore these.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> object:
    """The limit of each test, scaled by how busy the machine is when the test begins."""
    return pytest_timeout.pytest_timeout_set_timer(item, settings._replace(timeout=settings.timeout * SLOWNESS))


@pytest.hookimpl(trylast=True)  # after xdist has ended its workers
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session when a process has outlived its tests."""
    fork_server.close()
    if hasattr(session.config, "workerinput"):
        return
    left = leftovers.end(os.environ[leftovers.MARK], 2 * SLOWNESS)
    session.config.stash[LEFT] = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left := config.stash.get(LEFT, []):
        terminalreporter.section("processes left behind (and killed now)", red=True)
        for one in left:
            terminalreporter.line(str(one))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        (what,) = mark.args
        if not _is_there(what):
            reason = (
                f"{what} is not installed: {f'apt install {PACKAGES[what]}' if what in PACKAGES else 'see .ci/run'}"
            )
            reason += ", or npm install in examples/customers" if what in MODULES else ""
            must = os.environ.get("CI") == "true" and what not in MODULES  # a registry may be out of reach of a machine
            pytest.fail(reason, pytrace=False) if must else pytest.skip(reason)


@functools.cache
def _is_there(what: str) -> bool:
    """``what``: of PACKAGES, or a path in the repository."""
    if "/" in what:
        return (ROOT / what).exists()
    command = ["node", "-e", f"require('{what}')"] if what in MODULES else PROBES.get(what, [])
    if not command:
        return shutil.which(what) is not None
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, cwd=EXAMPLE, stderr=subprocess.DEVNULL, check=False).returncode == 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=distribution.order)
    for item in items:
        if item.get_closest_marker("looptime"):  # empty turns of the loop before a fake clock moves: 42 by default
            item.add_marker(pytest.mark.looptime(noop_cycles=4))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude the collected tests, which are a million objects, from garbage collection, and collect none meanwhile. A
    fleet collects once in each second of its clock: with a fake clock, these took a minute of one test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> distribution.Scheduling:
    config.option.loadscopereorder = False  # see distribution.order
    return distribution.Scheduling(config, log)
