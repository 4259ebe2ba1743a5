"""Builds every part from the Config, runs it, stops it: the only wiring."""

from pathlib import Path


def run(config_path: Path) -> int:
    """See ``running.run``."""
    from flyatc.daemon import daemon  # commands which use a part of this room need not wait for all of it

    return daemon.run(config_path)
