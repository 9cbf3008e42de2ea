"""`make run`: everything that is missing is made, then the API and the dashboard are served on one port.

This half is standard library only and ends by becoming `deploy/serve.py` under the environment's own Python.
"""

import errno
import os
import socket

from build import build
from setup import environment, set_up
from steps import ROOT, VENV_PYTHON, Stop, main


def run() -> None:
    """Checks the port, sets up, builds, and turns this process into the server."""
    host, port = address()
    require_free_port(host, port)
    set_up(local=wants_local())
    build()
    os.chdir(ROOT)
    os.execve(VENV_PYTHON, [str(VENV_PYTHON), str(ROOT / "deploy" / "serve.py")], environment())


def address() -> tuple[str, int]:
    """`HOST` and `PORT`, or the defaults of api/settings.py. Raises `Stop` for a port that cannot be one."""
    host = os.environ.get("HOST") or "127.0.0.1"
    given = os.environ.get("PORT") or "8000"
    if not given.isdecimal() or int(given) > 65535:
        raise Stop(f"PORT is {given!r}; it must be a number from 0 to 65535.")
    return host, int(given)


def wants_local() -> bool:
    """Whether the local engines are wanted: `LOCAL=0` leaves them out."""
    return os.environ.get("LOCAL", "1").strip().lower() not in {"0", "false", "no", "off", "f", "n"}


def require_free_port(host: str, port: int) -> None:
    """Raises `Stop` when nothing can be served at this address; afterwards the port is free again."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise Stop(f"HOST is {host!r}, which is no address of this machine.") from None
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
            probe.listen(1)
        except OSError as error:
            raise Stop(_why_not(error, host, port)) from None


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is taken by another program: stop it, or try PORT=9000 make run."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be opened by this user: try PORT=9000 make run."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"HOST is {host!r}, which is no address of this machine."
    return f"Port {port} of {host} cannot be opened: {error.strerror}."


if __name__ == "__main__":
    main(run)
