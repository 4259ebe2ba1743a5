"""What all lanes share. Its place makes ``tests/`` importable: ``from fakes.stage import Stage``."""

import asyncio
import os
import shutil
import signal

import pytest

pytest_plugins = ["fakes.s3"]  # one S3 of each kind for the whole session, started by the first who asks
PACKAGES = {"puma": "puma", "node": "nodejs", "dig": "bind9-dnsutils"}  # what Debian has them in; .ci/run installs them


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(program): skipped where the program is not installed; with CI=true fails")
    # Else pytest-asyncio, asking for the current loop after a test without one, has asyncio make a loop nobody closes.
    asyncio.set_event_loop(None)
    # Started in the background, or by nohup, we would hand on to every child that it shall ignore these.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        (program,) = mark.args
        if shutil.which(program) is None:
            reason = f"{program} is not installed: apt install {PACKAGES[program]}"
            pytest.fail(reason, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, or one core would wait for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_torture.py")
