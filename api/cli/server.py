"""`serve` and `migrate`."""

import errno
import os
import signal
import socket
import sys
from typing import Annotated

import typer

from api.cli.sentences import Refusal, plainly, settings
from api.settings import Settings


def serve(
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; more than one needs PostgreSQL and Redis.")
    ] = None,
) -> None:
    """Serve the API alone, without the dashboard, until told to stop."""
    with plainly():
        configured = settings()
        count = workers or configured.workers
        require_shared_state(configured, count)
        _require_ready(configured)
        _require_free_port(configured.host, configured.port)
        # Worker processes read their settings themselves: they must know how many share a limit.
        os.environ["CALLMISSED_WORKERS"] = str(count)  # noqa: TID251
    import uvicorn

    from api import log
    from api.edge.protocol import SERVING

    log.configure(configured.log_level)
    print(f"CallMissed's API is at {configured.origin} ({count} worker{'s' * (count > 1)}).", flush=True)
    # uvicorn, done with its orderly end, sends itself the signal again: that end is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        "api.main:application",
        factory=True,
        host=configured.host,
        port=configured.port,
        workers=count,
        **SERVING,
    )


def migrate() -> None:
    """Bring the database to the newest revision; a second run changes nothing."""
    with plainly():
        configured = settings()
        from alembic.util import CommandError

        from api.cli.database import newest_revision, place, revision
        from api.db.migrate import migrate as upgrade

        before = revision(configured)
        try:
            if before != newest_revision():
                upgrade(configured)
        except CommandError as error:
            raise Refusal(
                f"The database is at revision {before}, which this program does not know: it is older than "
                "the one that made the database."
            ) from error
        print(f"The database {place(configured)} is at revision {newest_revision()}.")


def require_shared_state(configured: Settings, workers: int) -> None:
    """Raise `Refusal` when so many workers would not share their limits and their database."""
    if workers > 1 and (configured.database_url is None or configured.redis_url is None):
        missing = [
            name
            for name, value in (
                ("CALLMISSED_DATABASE_URL (PostgreSQL)", configured.database_url),
                ("CALLMISSED_REDIS_URL", configured.redis_url),
            )
            if value is None
        ]
        raise Refusal(f"{workers} workers need {' and '.join(missing)}; without, serve with one worker.")


def _require_ready(configured: Settings) -> None:
    from api.catalog.catalog import load_catalog
    from api.cli.database import require_migrated
    from api.gateway.rate_limit import open_limiter
    from api.notify.mail import open_mailer
    from api.tenants.secrets import load_secret

    require_migrated(configured)
    try:
        for opens in (load_secret, load_catalog, open_mailer, open_limiter):
            opens(configured)  # none of them connects yet
    except ValueError as error:
        raise Refusal(str(error)) from error


def _require_free_port(host: str, port: int) -> None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "it is taken by another program" if taken else (error.strerror or str(error))
        raise Refusal(f"Port {port} of {host} cannot be served: {reason}; HOST and PORT choose.") from error
