"""What the routers of people and keys need of the running server."""

from typing import Protocol, cast

from fastapi import Request

from api.db.engine import Database
from api.gateway.rate_limit import Limiter
from api.notify.mail import Mailer
from api.settings import Settings
from api.tenants.authenticate import KeyRing


class Roots(Protocol):
    """The roots that `app.state.services` holds, as far as these routers use them."""

    @property
    def settings(self) -> Settings:
        """What the operator decided."""

    @property
    def secret(self) -> bytes:
        """The deployment's secret."""

    @property
    def database(self) -> Database:
        """The database."""

    @property
    def limiter(self) -> Limiter:
        """Limits per address and per account."""

    @property
    def mailer(self) -> Mailer:
        """Outgoing mail."""

    @property
    def keys(self) -> KeyRing:
        """Keys this process has seen lately."""


def roots(request: Request) -> Roots:
    """The roots of the app that serves the request."""
    return cast(Roots, request.app.state.services)
