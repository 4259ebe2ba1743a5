"""What all lanes share. Its place makes ``tests/`` importable: ``from fakes.stage import Stage``."""

import asyncio


def pytest_configure() -> None:
    # Else pytest-asyncio, asking for the current loop after a test without one, has asyncio make a loop nobody closes.
    asyncio.set_event_loop(None)
