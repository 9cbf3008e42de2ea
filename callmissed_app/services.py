"""The roots of the running server, for the states. The lifespan sets them and takes them away."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from api.db.session import TenantSession, tenant_session
from api.edge.cookies import cookie_name, read_cookie
from api.types import Caller

if TYPE_CHECKING:
    from api.gateway.services import Services

_running: list[Services] = []


def started(services: Services) -> None:
    """From now on `services()` returns these."""
    _running.append(services)


def stopped(services: Services) -> None:
    """The server that held these has closed them."""
    _running.remove(services)


def services() -> Services:
    """What the running server holds. Raises RuntimeError before it has started and after it has stopped."""
    if not _running:
        raise RuntimeError("The server is not running: nothing is open.")
    return _running[-1]


def reading(caller: Caller) -> AbstractAsyncContextManager[TenantSession]:
    """A session on the caller's own rows, for the verbs that ask for one; only to be read with."""
    return tenant_session(services().database, caller.tenant_id)


def session_hash(cookie_header: str) -> str:
    """What stands in the place of the session token in a socket's cookies: its SHA-256, or ""."""
    return read_cookie(cookie_header, cookie_name(services().settings))
