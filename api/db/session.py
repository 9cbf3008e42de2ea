"""Sessions that belong to one tenant and cannot see or touch another's rows.

A `TenantSession` is born with its tenant and keeps it for life. Every statement gets the tenant's criterion
on every mapped class that has a `tenant_id`, also when no such class is visible in it (a joined load from a
global table shows none). What the criterion cannot reach is refused: text, Core statements on tenants'
tables, bulk writes, raw connections. On PostgreSQL the transaction also acts as a role that row-level
security confines to the tenant.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NoReturn
from uuid import UUID

from sqlalchemy import Connection, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, SessionTransaction, with_loader_criteria
from sqlalchemy.orm.attributes import History, get_history
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql import CompoundSelect, Delete, Insert, Select, Update, visitors
from sqlalchemy.sql.elements import ColumnClause, TextClause
from sqlalchemy.sql.schema import Table
from sqlalchemy.sql.selectable import TableClause, TextualSelect
from sqlmodel import SQLModel

from api.db.engine import APP_ROLE, Database

_TENANTS = "tenants"
_ONCE = "callmissed_insert_once"
_STAMP = object()
_HARMLESS_LITERAL = re.compile(r"\*|\d+")


class ScopeError(RuntimeError):
    """A statement or row that a tenant's session must not carry. A mistake in the program, never a reply."""


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
        _refuse(session, state)
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
    if getattr(type(row), "__tablename__", None) == _TENANTS:
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
            if "tenant_id" in mapper.attrs or mapper.local_table.description == _TENANTS
        ]
        _criteria_of[len(mappers)] = found
    return found


def _criteria(tenant_id: UUID) -> list[ORMOption]:
    return [
        with_loader_criteria(scoped, getattr(scoped, name) == tenant_id, include_aliases=True)
        for scoped, name in _scoped_classes()
    ]


def _refuse(session: _GuardedSession, state: ORMExecuteState) -> None:
    statement = state.statement
    if not isinstance(statement, Select | CompoundSelect | Update | Delete):
        raise ScopeError(f"a tenant's session carries no {type(statement).__name__}")
    if isinstance(statement, Update | Delete):
        _refuse_writing(session)
        _refuse_moving(statement, state.parameters)
    loads = state.is_relationship_load or state.is_column_load
    followed = _followed(statement) if state.is_orm_statement else frozenset()
    for element in visitors.iterate(statement):
        _refuse_element(element, followed if not loads else None)


def _refuse_moving(statement: Update | Delete, parameters: object) -> None:
    if isinstance(parameters, list | tuple) and parameters:
        raise ScopeError("a bulk update bypasses the tenant's criterion")
    named = set(parameters) if isinstance(parameters, Mapping) else set()
    values: dict[Any, Any] = getattr(statement, "_values", None) or {}
    named |= {getattr(column, "key", column) for column in values}
    if "tenant_id" in named:
        raise ScopeError("a row never changes its tenant")


def _refuse_element(element: Any, followed: frozenset[Any] | None) -> None:
    """Raise for what the criterion cannot reach: text, and tables that are not spoken of as classes.

    `followed` are the tables whose class is in the statement; None for loads, which the ORM itself composes.
    """
    if isinstance(element, TextClause | TextualSelect):
        raise ScopeError("a tenant's session carries no text SQL")
    if isinstance(element, Insert):
        raise ScopeError("rows are added to the session, or with insert_once")
    if isinstance(element, ColumnClause) and element.is_literal:
        if not _HARMLESS_LITERAL.fullmatch(element.name):
            raise ScopeError("a tenant's session carries no literal SQL")
    elif followed is not None:
        table = element.table if isinstance(element, ColumnClause) else element
        if _is_plain(element) and _is_scoped(table) and table not in followed:
            raise ScopeError(f"{element} is a table's, not a class's: no criterion follows it")


def _followed(statement: Any) -> frozenset[Any]:
    """Tables whose class is selected, also inside a function (`count(ApiKey.id)`), or selected from."""
    named = (*getattr(statement, "_raw_columns", ()), *getattr(statement, "_from_obj", ()))
    entities = [
        element._annotations.get("parententity") for part in named for element in visitors.iterate(part)
    ]
    return frozenset(entity.local_table for entity in entities if isinstance(entity, Mapper))


def _is_scoped(table: Any) -> bool:
    """Whether a table is a tenant's; one that only the statement knows may be any."""
    if not isinstance(table, TableClause):
        return False
    return not isinstance(table, Table) or "tenant_id" in table.columns or table.name == _TENANTS


def _is_plain(element: Any) -> bool:
    return isinstance(element, TableClause | ColumnClause) and "parententity" not in element._annotations
