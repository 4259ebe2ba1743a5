from pathlib import Path

import click

from flyatc.cli import address, options, words
from flyatc.control.answers import LONGEST_HOLD, Drained
from flyatc.kit import units
from flyatc.kit.errors import FlyatcError


@click.command()
@address.scope
@click.option("--limit", default="30s", show_default=True, metavar="TIME", help="How long a request waits; then 503.")
@options.config_file
def pause(scope: str | None, limit: str, config_path: Path | None) -> None:
    """Hold the requests for a tenant, all of a user, or everything, until flyatc resume.

    Returns when the apps have answered those which they had. Open WebSockets go on. Static files, cached answers and
    health checks are answered meanwhile. It stays so over a restart."""
    seconds, config = _seconds(limit), options.read(config_path)
    wanted = address.of_scope(config, scope)
    drained = options.client(config).post("/pause", Drained, address=wanted, limit=seconds)
    name = address.named(wanted)
    if drained.requests:
        left = words.count(drained.requests, "request")
        raise FlyatcError(f"{name} is paused, but after {limit} {left} still in flight; flyatc resume lets visitors in")
    tunnels = f"; {words.count(drained.tunnels, 'open tunnel')} left alone" if drained.tunnels else ""
    click.echo(f"{name} is paused, nothing is in flight{tunnels}")


def _seconds(limit: str) -> float:
    try:
        seconds = units.seconds(limit)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--limit") from error
    if not 0 < seconds <= LONGEST_HOLD:
        raise click.BadParameter(
            f"must be more than 0 and at most {units.written_seconds(LONGEST_HOLD)}", param_hint="--limit"
        )
    return seconds
