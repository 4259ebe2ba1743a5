"""What all lanes share. Its place makes ``tests/`` importable: ``from fakes.stage import Stage``."""

import asyncio
import signal


def pytest_configure() -> None:
    # Else pytest-asyncio, asking for the current loop after a test without one, has asyncio make a loop nobody closes.
    asyncio.set_event_loop(None)
    # Started in the background, or by nohup, we would hand on to every child that it shall ignore these.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
