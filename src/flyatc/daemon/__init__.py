"""The daemon: builds every part from the Config, runs it and stops it."""

from pathlib import Path


def run(config_path: Path) -> int:
    """Run the daemon: see ``daemon.run``."""
    from flyatc.daemon import daemon  # imported late: commands which use one module of this package need not load all

    return daemon.run(config_path)
