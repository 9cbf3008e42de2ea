"""The roots of the running server, for the states. The lifespan sets them once and takes them away at the end."""

from api.gateway.services import Services

_running: Services | None = None


def provide(services: Services | None) -> None:
    """From now on `services()` returns these; None when the server stops."""
    global _running  # noqa: PLW0603
    _running = services


def services() -> Services:
    """What the running server holds. Raises RuntimeError before it has started."""
    if _running is None:
        raise RuntimeError("The server has not started: nothing is open yet.")
    return _running
