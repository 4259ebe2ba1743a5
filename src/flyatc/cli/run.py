from pathlib import Path

import click


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A tenants.yaml for the app's databases. Without it, nothing is restored or saved.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] CMD [ARGS]...")
@click.pass_context
def run(ctx: click.Context, config_path: Path | None, command: tuple[str, ...]) -> int:
    """Run one app, without tenants: in place of thruster, and with its variables.

    Visitors come to HTTP_PORT (80), the app listens on TARGET_PORT (3000), which is its PORT. Signals are handed on to
    it, and its exit code is ours.

    Of FILE count storage, server.data (the folder of the databases), and of app: databases, seed, env and stop_grace.

    "flyatc CMD" is the same as "flyatc run -- CMD" where CMD is none of flyatc's own commands.
    """
    if not command:
        click.echo(ctx.get_usage(), err=True)
        click.echo("there is no command to run: flyatc run -- ./bin/rails server", err=True)
        return 1
    from flyatc.daemon import wrapper

    return wrapper.run(command, config_path)
