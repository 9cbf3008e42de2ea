"""`python -m tests.whole.forks`: `python -m api serve`, started in a tenth of the time, as often as asked.

For each line on standard input it forks a server from a process that has imported everything already, and
writes two lines: the server's process id, and its exit code once it has ended. The server goes with this one.
"""

import os
import signal
import sys
from importlib import import_module
from select import select

IMPORTED = ("api.main", "api.cli.server", "api.cli.database", "api.db.migrate", "uvicorn", "uvloop")


def main() -> None:
    """Serve requests for servers until standard input ends."""
    for name in IMPORTED:
        import_module(name)
    while sys.stdin.buffer.read(1):
        server = os.fork()
        if server == 0:
            _serve()
        print(server, flush=True)
        print(_exit_code(server), flush=True)


def _serve() -> None:
    from api.cli.server import serve

    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    code = 1
    try:
        serve(None)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        os._exit(code)


def _exit_code(server: int) -> int:
    while True:
        pid, status = os.waitpid(server, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if select([sys.stdin], [], [], 0.002)[0]:  # whoever asked is gone
            os.kill(server, signal.SIGKILL)


if __name__ == "__main__":
    main()
