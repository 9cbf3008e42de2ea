"""Owns the operator's commands. What goes wrong is one sentence on standard error and a non-zero exit.

Rooms are imported inside the commands: each starts as fast as what it needs.
"""

import sys

import typer

from api.cli import accounts, doctor, models, server

app = typer.Typer(
    name="python -m api",
    help="CallMissed's server and its upkeep.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(server.serve)
app.command()(server.migrate)
app.command()(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(accounts.keys, name="keys")
app.add_typer(accounts.credits, name="credits")
app.add_typer(accounts.ledger, name="ledger")


def main() -> None:
    """Run one command; what nobody foresaw is one sentence too, its trace with CALLMISSED_LOG_LEVEL=debug."""
    try:
        app(prog_name="python -m api")
    except Exception as error:
        from api.cli.sentences import is_debugging

        if is_debugging():
            raise
        first = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
        print(
            f"This was not foreseen: {type(error).__name__}: {first}. CALLMISSED_LOG_LEVEL=debug shows more.",
            file=sys.stderr,
        )
        sys.exit(1)
