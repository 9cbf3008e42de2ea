"""The second half of `make run`, under the environment's Python: models, database, then the server itself.

One process for all of it: every further Python would cost a second of each start.
"""

import runpy
import sys
import traceback

from run import wants_local
from steps import LOGS, ROOT, Stop, main


def prepare() -> None:
    """The local models are there and the database is at its newest revision."""
    if wants_local():
        command("models", "pull")
    command("migrate")


def command(*words: str) -> None:
    """`python -m api …` in this process. Raises `Stop` for what was not foreseen; a file has its trace."""
    from api.cli import app

    name = "python -m api " + " ".join(words)
    try:
        status = app(list(words), prog_name="python -m api", standalone_mode=False)
    except SystemExit as exit_:
        status = exit_.code
    except Exception as error:
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{'-'.join(words)}.log"
        log.write_text(traceback.format_exc())
        said = getattr(error, "message", None) or str(error) or type(error).__name__
        raise Stop(f"`{name}` failed: {said.splitlines()[0].rstrip('.')}. More: {log}") from None
    if status:
        sys.exit(status)


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main(prepare)
    runpy.run_module("callmissed_app", run_name="__main__", alter_sys=True)
