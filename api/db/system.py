"""The one door to rows of all tenants. Who may pass, and why, is the list below."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal, get_args

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from api.db.engine import SYSTEM_ROLE, Database

Reason = Literal[
    "registration",  # a new organization, its owner, its signup bonus
    "sign-in",  # an address or a token says who somebody is
    "api-key",  # a secret's hash says which key it is
    "mail-code",  # codes sent to people who have no organization yet
    "operator",  # the command line of who runs the deployment
    "catalog",  # price versions, which belong to nobody
    "jobs",  # leases of periodic work
    "sweep",  # holds of all tenants that are past their time
    "verify",  # recomputing everybody's books
    "doctor",  # counting rows
]
"""The guest list: every reason for which rows of all tenants may be seen."""


class _SystemSession(Session):
    """The synchronous half; on PostgreSQL its transactions act as the system role."""

    role: str | None


@asynccontextmanager
async def system_session(
    database: Database, reason: Reason, *, writes: bool = False
) -> AsyncIterator[AsyncSession]:
    """Lend a session that is not confined to a tenant: committed on a clean exit, rolled back otherwise.

    Open a `tenant_session` as soon as the tenant is known. `writes` as there. Raises ValueError for a reason
    that is not on the list.
    """
    if reason not in get_args(Reason):
        raise ValueError(f"{reason!r} is no reason to see all tenants")
    async with AsyncExitStack() as stack:
        if writes and database.is_sqlite:
            await stack.enter_async_context(database.write_turn)
        session = AsyncSession(
            database.bind(writes=writes), expire_on_commit=False, sync_session_class=_SystemSession
        )
        if isinstance(session.sync_session, _SystemSession):
            session.sync_session.role = None if database.is_sqlite else SYSTEM_ROLE
        await stack.enter_async_context(session)
        yield session
        await session.commit()


@event.listens_for(_SystemSession, "after_begin")
def _enter(session: _SystemSession, _transaction: SessionTransaction, connection: Connection) -> None:
    if session.role is not None:
        connection.exec_driver_sql("SELECT set_config('role', $1, true)", (session.role,))
