"""The roots: opened once at start-up, passed to every room as arguments, closed in reverse."""

from __future__ import annotations

from dataclasses import dataclass

from api.catalog.catalog import Catalog
from api.db.engine import Database
from api.db.writer import Writer
from api.gateway.rate_limit import Limiter
from api.notify.mail import Mailer
from api.providers.local_engine import LocalEngine
from api.providers.registry import Vendors
from api.providers.transport import Transport
from api.settings import Settings
from api.tenants.authenticate import KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a running server holds."""

    settings: Settings
    secret: bytes
    """The server's secret; purposes derive keys of their own from it."""
    database: Database
    writer: Writer
    limiter: Limiter
    catalog: Catalog
    vendors: Vendors
    engine: LocalEngine
    transport: Transport
    keys: KeyRing
    mailer: Mailer
