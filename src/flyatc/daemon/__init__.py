"""Builds every part from the Config, runs it, stops it: the only wiring."""

from flyatc.daemon.running import run as run
