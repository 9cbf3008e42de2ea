"""The running server's roots, for the routers."""

from fastapi import Request

from api.gateway.services import Services


def roots(request: Request) -> Services:
    """What the app that serves `request` holds."""
    services: Services = request.app.state.services
    return services
