from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from whole.daemon import Daemon

StartDaemon = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartDaemon]:
    """Starts daemons from the text of their tenants.yaml; ends them after the test; shows their log if it failed."""
    begun: list[Daemon] = []

    def one(config: str, *, env: dict[str, str] | None = None, folder: Path | None = None) -> Daemon:
        daemon = Daemon(folder or tmp_path / f"daemon{len(begun)}", config, env or {})
        begun.append(daemon)
        return daemon.start()

    yield one
    for daemon in begun:
        daemon.clean_up()
        print(f"--- log of {daemon.folder.name} ---")
        if daemon.log_file.exists():
            print(daemon.log_file.read_text(errors="replace")[-20_000:])
