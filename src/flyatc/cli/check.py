import os
from pathlib import Path

import click

from flyatc.cli import options, show, words
from flyatc.config import describe
from flyatc.config.schema import Config
from flyatc.fly import needs


@click.command()
@options.config_file
@click.option("--schema", is_flag=True, help="Print the JSON Schema of tenants.yaml, for editors.")
def check(config_path: Path | None, schema: bool) -> None:
    """Tell every fault of tenants.yaml at once, each with its line and key."""
    if schema:
        return show.json(describe.json_schema())
    click.echo(summary(options.read(config_path)))


def summary(config: Config) -> str:
    from flyatc.daemon import sleepless

    users = len({tenant.user for tenant in config.tenants.values()})
    who = f"{words.count(users, 'user')}, {words.count(len(config.tenants), 'tenant')}"
    if config.pattern is not None:
        who += f", and others by the pattern {config.pattern.match}"
    store = config.storage.url if config.storage.mode != "none" else "none"
    lines = [
        f"{config.path}: no faults",
        f"  {who}",
        f"  visitors  {config.server.listen}, below {config.server.root}",
        f"  data      {config.server.data}",
        f"  store     {store}",
    ]
    if config.pattern is not None and config.pattern.provision:
        lacking = needs.lacking(config, os.environ)
        made = f"made on Fly for users who have none, while there are less than {config.fly.machines_most}"
        lines.append(f"  machines  {made if lacking is None else f'none can be made: {lacking}'}")
    if (why := sleepless.reason(config, os.environ)) is not None:
        lines.append(f"  warning   {why}")
    return "\n".join(map(words.plain, lines))
