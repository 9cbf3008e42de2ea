"""The one door to rows of all tenants. Who may pass, and why, is the list below."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal, get_args

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction

from api.db.engine import SYSTEM_ROLE, Database
from api.db.guard import ScopeError

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


class _UnscopedSession(Session):
    """The synchronous half; on PostgreSQL its transactions act as the system role."""

    role: str | None
    writes: bool


class SystemSession(AsyncSession):
    """A session that sees all tenants; open it with `system_session`."""

    sync_session_class = _UnscopedSession
    sync_session: _UnscopedSession


@asynccontextmanager
async def system_session(
    database: Database, reason: Reason, *, writes: bool = False
) -> AsyncIterator[SystemSession]:
    """Lend a session that is not confined to a tenant: committed on a clean exit, rolled back otherwise.

    Open a `tenant_session` as soon as the tenant is known. `writes` as there. Raises ValueError for a reason
    that is not on the list.
    """
    if reason not in get_args(Reason):
        raise ValueError(f"{reason!r} is no reason to see all tenants")
    async with AsyncExitStack() as stack:
        if writes and database.is_sqlite:
            await stack.enter_async_context(database.write_turn)
        session = SystemSession(database.bind(writes=writes), expire_on_commit=False)
        session.sync_session.role = None if database.is_sqlite else SYSTEM_ROLE
        session.sync_session.writes = writes
        await stack.enter_async_context(session)
        yield session
        await session.commit()


@event.listens_for(_UnscopedSession, "after_begin")
def _enter(session: _UnscopedSession, _transaction: SessionTransaction, connection: Connection) -> None:
    if session.role is not None:
        connection.exec_driver_sql("SELECT set_config('role', $1, true)", (session.role,))


@event.listens_for(_UnscopedSession, "do_orm_execute")
def _check_statement(state: ORMExecuteState) -> None:
    if state.is_insert or state.is_update or state.is_delete:
        _refuse_writing(state.session)


@event.listens_for(_UnscopedSession, "before_flush")
def _check_rows(session: _UnscopedSession, _context: object, _instances: object) -> None:
    if session.new or session.dirty or session.deleted:
        _refuse_writing(session)


def _refuse_writing(session: Session) -> None:
    if not getattr(session, "writes", False):
        raise ScopeError("this session was opened for reading; open it with writes=True")
