"""Which statements a tenant's session may carry: those whose every table the tenant's criterion follows.

The criterion follows mapped classes. So a tenant's table must be spoken of as its class in each SELECT that
reads it, and a statement may hold no text, which could name anything.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.orm import Mapper
from sqlalchemy.sql import CompoundSelect, Delete, Select, Update
from sqlalchemy.sql.elements import ColumnClause, TextClause
from sqlalchemy.sql.schema import Table
from sqlalchemy.sql.selectable import FromClause, SelectBase, TableClause

TENANTS = "tenants"
"""The table whose own id is the tenant."""

_HARMLESS = re.compile(r"\*|\d+")


class ScopeError(RuntimeError):
    """A statement or row that a tenant's session must not carry. A mistake in the program, never a reply."""


def check_statement(statement: Any, parameters: object) -> None:
    """Raise `ScopeError` unless the criterion reaches every tenant's row the statement could."""
    if isinstance(statement, Update | Delete):
        _check_change(statement, parameters)
    elif not isinstance(statement, Select | CompoundSelect):
        raise ScopeError(f"a tenant's session carries no {type(statement).__name__}")
    waiting = [statement]
    while waiting:
        waiting.extend(_check_scope(waiting.pop()))


def _check_scope(scope: Any) -> list[Any]:
    """Check one SELECT (or UPDATE, DELETE) without those inside it, which are returned."""
    if not isinstance(scope, Select | CompoundSelect | Update | Delete):
        raise ScopeError(f"a tenant's session carries no {type(scope).__name__}")
    for target, *_ in getattr(scope, "_setup_joins", ()):
        if not isinstance(target._annotations.get("parententity"), Mapper | None):
            raise ScopeError(
                "join the class itself: SQLAlchemy writes the criterion of a joined alias wrongly"
            )
    # Columns of classes bring their tables into the FROM without the class's mark.
    brought = {
        element.table for element, marked in _elements(scope) if marked and isinstance(element, ColumnClause)
    }
    selected = _selected_tables(scope)
    inside = []
    for element, marked in _elements(scope, brought):
        if isinstance(element, SelectBase):
            inside.append(element)
        elif isinstance(element, TextClause):
            raise ScopeError("a tenant's session carries no text SQL")
        elif isinstance(element, ColumnClause):
            _check_column(element, marked, selected)
        elif isinstance(element, TableClause) and not marked and element not in selected:
            _refuse_if_scoped(element, element)
    return inside


def _elements(scope: Any, brought: set[FromClause | None] | None = None) -> Iterator[tuple[Any, bool]]:
    """What a SELECT is made of, down to the SELECTs inside it; and whether it stands for a mapped class."""
    waiting = [(child, False) for child in scope.get_children()]
    while waiting:
        element, marked = waiting.pop()
        marked = marked or "parententity" in element._annotations
        marked = marked or (isinstance(element, FromClause) and element in (brought or ()))
        yield element, marked
        if not isinstance(element, SelectBase):
            waiting.extend((child, marked) for child in element.get_children())


def _selected_tables(scope: Any) -> frozenset[Any]:
    """Tables of the classes a SELECT selects: a plain column of one, as in `get`, is of the same FROM."""
    columns = getattr(scope, "_raw_columns", None) or [getattr(scope, "table", None)]
    entities = [getattr(column, "_annotations", {}).get("parententity") for column in columns]
    return frozenset(entity.local_table for entity in entities if isinstance(entity, Mapper))


def _check_column(column: ColumnClause[Any], marked: bool, selected: frozenset[Any]) -> None:
    if column.is_literal and not _HARMLESS.fullmatch(column.name):
        raise ScopeError("a tenant's session carries no literal SQL")
    source: Any = column.table
    while source is not None and not isinstance(source, TableClause | SelectBase):
        source = getattr(source, "element", None)
    if not marked and isinstance(source, TableClause) and source not in selected:
        _refuse_if_scoped(source, column)


def _refuse_if_scoped(table: TableClause, element: Any) -> None:
    # A table that only the statement knows (`sqlalchemy.table`) may be any.
    if not isinstance(table, Table) or "tenant_id" in table.columns or table.name == TENANTS:
        raise ScopeError(f"{element} is a table's, not a class's: no criterion follows it")


def _check_change(statement: Update | Delete, parameters: object) -> None:
    if isinstance(parameters, list | tuple) and parameters:
        raise ScopeError("a bulk update bypasses the tenant's criterion")
    named = set(parameters) if isinstance(parameters, Mapping) else set()
    values = dict(getattr(statement, "_values", None) or ())
    values |= dict(getattr(statement, "_ordered_values", None) or ())
    named |= {getattr(column, "key", column) for column in values}
    if "tenant_id" in named:
        raise ScopeError("a row never changes its tenant")
    for element, _ in _elements(statement):
        entity = element._annotations.get("parententity")
        if entity is not None and not (isinstance(entity, Mapper) and statement.table == entity.local_table):
            # UPDATE … FROM and DELETE … USING: the criterion follows the first table only.
            raise ScopeError("an UPDATE or DELETE reads other tables in subqueries only")
