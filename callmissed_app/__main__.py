"""`python -m callmissed_app`: the API and the dashboard on one origin."""

import errno
import signal
import socket
import sys

import uvicorn

from api.edge.protocol import SERVING
from api.providers.local_engine import LocalEngine
from api.providers.registry import VENDORS, Vendors
from api.settings import Settings, load_settings


def main() -> None:
    """Serve until told to stop; says where, and what works without keys."""
    settings = load_settings()
    if settings.workers > 1:
        sys.exit("The dashboard's server is one process; run `python -m api serve --workers N` for more.")
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        reason = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
        sys.exit(f"Port {settings.port} of {settings.host} cannot be opened: {reason}.")
    print(greeting(settings), flush=True)
    # uvicorn, done with its orderly end, sends itself the signal again: that end is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = uvicorn.Config("callmissed_app.server:application", factory=True, **SERVING)
    uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError when there can be none.

    The protocol is named: asyncio sends small answers without delay only where it is.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(2048)
    return listener


def greeting(settings: Settings) -> str:
    """Where it is, what answers now, and which settings would add to it."""
    vendors = Vendors(settings, LocalEngine(settings))
    ready = [vendor.title for vendor in VENDORS.values() if vendors.is_ready(vendor.name)]
    missing = [vendor.setting for vendor in VENDORS.values() if not vendors.is_ready(vendor.name)]
    lines = [
        f"CallMissed is at {settings.origin}",
        f"Models answer from: {', '.join(ready) or 'nowhere yet'}.",
    ]
    if missing:
        lines.append(f"More with: {', '.join(missing)}.")
    if settings.smtp_url is None:
        lines.append(f"Mail is a file in {settings.data_dir / 'mail'}.")
    return "\n" + "\n".join(f"  {line}" for line in lines) + "\n"


if __name__ == "__main__":
    main()
