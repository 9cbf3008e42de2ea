"""`python -m callmissed_app`: the API and the dashboard on one origin."""

import sys

import uvicorn

from api.settings import load_settings


def main() -> None:
    """Serve until told to stop; says where, and what works without keys."""
    settings = load_settings()
    if settings.workers > 1:
        sys.exit("The dashboard's server is one process; run `python -m api serve --workers N` for more.")
    print(f"\n  CallMissed is at {settings.origin}\n", flush=True)
    uvicorn.run(
        "callmissed_app.server:application",
        factory=True,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=60,
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    main()
