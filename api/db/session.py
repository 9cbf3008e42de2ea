"""Sessions that belong to one tenant and cannot see or touch another's rows.

A `TenantSession` is born with its tenant and keeps it for life. Every statement gets the tenant's criterion
on every mapped class that has a `tenant_id`, also when no such class is visible in it (a joined load from a
global table shows none). What the criterion cannot reach is refused: text, Core statements on tenants'
tables, bulk writes, raw connections. On PostgreSQL the transaction also acts as a role that row-level
security confines to the tenant.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn
from uuid import UUID

from sqlalchemy import Connection, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, with_loader_criteria
from sqlalchemy.orm.attributes import History, get_history
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql import Delete, Update
from sqlmodel import SQLModel

from api.db.engine import APP_ROLE, Database
from api.db.guard import TENANTS, ScopeError, check_statement

_ONCE = "callmissed_insert_once"
_STAMP = object()


__all__ = ["ScopeError", "TenantSession", "insert_once", "tenant_session"]


class _GuardedSession(Session):
    """The synchronous half; everything that would bypass the guard raises `ScopeError`."""

    tenant_id: UUID
    writes: bool
    role: str | None

    def connection(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise ScopeError("a tenant's session lends no raw connection")

    def bulk_save_objects(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise ScopeError("bulk saves bypass the tenant's stamp")

    def bulk_insert_mappings(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise ScopeError("bulk inserts bypass the tenant's stamp")

    def bulk_update_mappings(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise ScopeError("bulk updates bypass the tenant's criterion")


class TenantSession(AsyncSession):
    """An `AsyncSession` of one tenant; open it with `tenant_session`."""

    sync_session_class = _GuardedSession
    sync_session: _GuardedSession

    @property
    def tenant_id(self) -> UUID:
        """The tenant this session was born with."""
        return self.sync_session.tenant_id


@asynccontextmanager
async def tenant_session(
    database: Database, tenant_id: UUID, *, writes: bool = False
) -> AsyncIterator[TenantSession]:
    """Lend a session of `tenant_id`: committed on a clean exit, rolled back otherwise.

    Only a session that `writes` may change rows. On SQLite it holds the one write lock until it is left, so
    nothing slow, and no call of the writer, may be awaited inside.
    """
    async with AsyncExitStack() as stack:
        if writes and database.is_sqlite:
            await stack.enter_async_context(database.write_turn)
        session = TenantSession(database.bind(writes=writes), expire_on_commit=False)
        session.sync_session.tenant_id = tenant_id
        session.sync_session.writes = writes
        session.sync_session.role = None if database.is_sqlite else APP_ROLE
        await stack.enter_async_context(session)
        yield session
        await session.commit()


async def insert_once(session: AsyncSession, model: type[SQLModel], /, **values: object) -> bool:
    """Insert one row unless a unique key of it is taken; True when it was inserted.

    In a tenant's session the row is stamped with its tenant. Raises `ScopeError` for another tenant's row.
    """
    guarded = session.sync_session
    if isinstance(guarded, _GuardedSession):
        _refuse_writing(guarded)
        if "tenant_id" not in model.model_fields:
            raise ScopeError(f"{model.__name__} belongs to no tenant")
        if values.setdefault("tenant_id", guarded.tenant_id) != guarded.tenant_id:
            raise ScopeError(f"a {model.__name__} of another tenant")
    row = model(**values)
    columns = {name: getattr(row, name) for name in model.model_fields}
    dialect = session.get_bind().dialect.name
    build = sqlite.insert if dialect == "sqlite" else postgresql.insert
    result = await session.execute(
        build(model).values(columns).on_conflict_do_nothing(),
        execution_options={_ONCE: _STAMP},
    )
    return bool(result.rowcount)  # type: ignore[attr-defined]


@event.listens_for(_GuardedSession, "do_orm_execute")
def _scope(state: ORMExecuteState) -> None:
    session = state.session
    if not isinstance(session, _GuardedSession):
        raise ScopeError("the guard is for tenants' sessions")
    if state.execution_options.get(_ONCE) is not _STAMP:
        if isinstance(state.statement, Update | Delete):
            _refuse_writing(session)
        if not (state.is_relationship_load or state.is_column_load):  # composed by the ORM, from classes
            check_statement(state.statement, state.parameters)
    state.statement = state.statement.options(*_criteria(session.tenant_id))


@event.listens_for(_GuardedSession, "before_flush")
def _check(session: _GuardedSession, _context: object, _instances: object) -> None:
    if session.new or session.dirty or session.deleted:
        _refuse_writing(session)
    for row in session.new:
        if "tenant_id" not in type(row).model_fields:
            raise ScopeError(f"{type(row).__name__} belongs to no tenant: write it in a system session")
        if row.tenant_id is None:
            row.tenant_id = session.tenant_id
    for row in (*session.new, *session.dirty, *session.deleted):
        if not _is_own(session, row):
            raise ScopeError(f"a {type(row).__name__} of another tenant")


@event.listens_for(_GuardedSession, "after_begin")
def _confine(session: _GuardedSession, _transaction: SessionTransaction, connection: Connection) -> None:
    if session.role is not None:
        connection.exec_driver_sql(
            "SELECT set_config('role', $1, true), set_config('app.tenant', $2, true)",
            (session.role, str(session.tenant_id)),
        )


def _is_own(session: _GuardedSession, row: Any) -> bool:
    if getattr(type(row), "__tablename__", None) == TENANTS:
        return bool(row.id == session.tenant_id)
    if "tenant_id" not in type(row).model_fields:
        return False
    history: History = get_history(row, "tenant_id")
    return bool(
        row.tenant_id == session.tenant_id and all(old == session.tenant_id for old in history.deleted)
    )


def _refuse_writing(session: _GuardedSession) -> None:
    if not session.writes:
        raise ScopeError("this session was opened for reading; open it with writes=True")


_criteria_of: dict[int, list[tuple[type[Any], str]]] = {}


def _scoped_classes() -> list[tuple[type[Any], str]]:
    """Every mapped class that has a tenant, with the attribute that names it."""
    mappers = SQLModel._sa_registry.mappers
    found = _criteria_of.get(len(mappers))
    if found is None:
        found = [
            (mapper.class_, "tenant_id" if "tenant_id" in mapper.attrs else "id")
            for mapper in mappers
            if "tenant_id" in mapper.attrs or mapper.local_table.description == TENANTS
        ]
        _criteria_of[len(mappers)] = found
    return found


def _criteria(tenant_id: UUID) -> list[ORMOption]:
    return [
        with_loader_criteria(scoped, getattr(scoped, name) == tenant_id, include_aliases=True)
        for scoped, name in _scoped_classes()
    ]
