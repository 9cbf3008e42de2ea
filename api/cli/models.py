"""`models pull` and `models list`: the weights of the models that run inside this server."""

import sys
import time
from typing import Annotated

import typer

from api.cli.sentences import plainly, settings
from api.providers.weights import Progress, Weights, is_proved, load_weights
from api.providers.weights import pull as pull_weights

app = typer.Typer(help="The weights of the local models.", no_args_is_help=True)

MEGABYTE = 1_000_000


@app.command()
def pull(
    verify: Annotated[bool, typer.Option("--verify", help="Compute the SHA-256 again.")] = False,
) -> None:
    """Fetch the weights of the local models; what is here already is not fetched again."""
    with plainly():
        configured = settings()
        for weights in load_weights().values():
            fetched = pull_weights(configured, weights, _progress(), verify=verify)
            state = "was fetched and is" if fetched else "is"
            print(f"{weights.title} {state} here: {weights.path(configured)}", flush=True)


@app.command("list")
def list_() -> None:
    """Say which weights are known, and whether they are here."""
    with plainly():
        configured = settings()
        for weights in load_weights().values():
            state = "here" if is_proved(configured, weights) else "not here"
            size = f"{weights.bytes / MEGABYTE:.0f} MB"
            print(f"{weights.name}  {state:8}  {size:>6}  {weights.licence}  {weights.title}")


def _progress() -> Progress:
    """Shows a download: one moving line on a terminal, else a line now and then; its end once."""
    shown, ended = -1.0, False
    on_terminal = sys.stdout.isatty()

    def show(weights: Weights, done: int, total: int) -> None:
        nonlocal shown, ended
        due = done >= total or time.monotonic() - shown >= (0.2 if on_terminal else 2.0)
        if ended or not due:
            return
        shown, ended = time.monotonic(), done >= total
        line = f"{weights.title}: {done / MEGABYTE:.0f} of {total / MEGABYTE:.0f} MB ({done * 100 // total}%)"
        if on_terminal:
            print(f"\r{line}", end="\n" if done >= total else "", flush=True)
        else:
            print(line, flush=True)

    return show
