"""A tenant's session sees and touches its own rows, whatever shape the statement has; on both databases.

Every test has two tenants with a user each and asks as the second.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    String,
    bindparam,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    table,
    text,
    union,
    update,
)
from sqlalchemy.orm import aliased, joinedload, registry, relationship, selectinload
from sqlmodel import col

from api.db.engine import Database
from api.db.session import ScopeError, TenantSession, insert_once, tenant_session
from api.db.system import system_session
from api.tables import EmailCode, Tenant, User
from api.types import new_id
from tests.conftest import MakeTenant

_probes = registry()


class Parent:
    """The table of tenants as a global class with children, as no class of ours may be."""

    id: UUID
    users: list[User]


_probes.map_imperatively(
    Parent,
    Tenant.__table__,  # type: ignore[attr-defined]
    properties={"users": relationship(User, viewonly=True, primaryjoin=Tenant.id == User.tenant_id)},
)


@dataclass
class Two:
    """Two tenants with a user each."""

    database: Database
    other: UUID
    other_user: UUID
    mine: UUID
    my_user: UUID


def _user(tenant_id: UUID | None, user_id: UUID, **values: Any) -> User:
    email = f"{user_id.hex}@example.com"
    common = {"email": email, "full_name": "x", "role": "owner", "created_at": 1, "updated_at": 1}
    owned = {"tenant_id": tenant_id} if tenant_id else {}
    return User(id=user_id, **owned, **(common | values))


@pytest.fixture
async def two(database: Database, tenant: MakeTenant) -> Two:
    """The two tenants."""
    found = Two(database, await tenant(name="Other"), new_id(), await tenant(name="Mine"), new_id())
    for tenant_id, user_id in ((found.other, found.other_user), (found.mine, found.my_user)):
        async with tenant_session(database, tenant_id, writes=True) as session:
            session.add(_user(tenant_id, user_id))
    return found


@pytest.fixture
async def session(two: Two) -> AsyncIterator[TenantSession]:
    """A writing session of the second tenant; what a refused statement left of it is thrown away."""
    with suppress(_Discard):
        async with tenant_session(two.database, two.mine, writes=True) as opened:
            yield opened
            raise _Discard


class _Discard(Exception):
    pass


_twin = aliased(User)
_in_tenants = select(User.tenant_id).where(col(User.tenant_id) == Tenant.id)
_from_users = select(User.id).subquery()
_cte = select(User.id).cte()

FILTERED = {
    "entity": select(User.id),
    "alias": select(_twin.id),
    "count": select(func.count()).select_from(User),
    "count of a column": select(func.count(col(User.id))),
    "expression": select(func.max(col(User.id).cast(String)).op("||")("")),
    "class in where alone": select(Parent.id).where(col(User.email) != "").where(Parent.id == User.tenant_id),
    "join from a global table": select(User.id).select_from(Tenant).join(User, User.tenant_id == Tenant.id),
    "join from an unguarded class": select(User.id)
    .select_from(Parent)
    .join(User, User.tenant_id == Parent.id),
    "outer join": select(User.id).select_from(Parent).outerjoin(User, User.tenant_id == Parent.id),
    "exists": select(Parent.id).where(_in_tenants.exists()),
    "scalar subquery": select(select(func.count()).select_from(User).scalar_subquery()),
    "IN subquery": select(Parent.id).where(Parent.id.in_(select(User.tenant_id))),
    "CTE": select(_cte.c.id),
    "FROM subquery": select(_from_users.c.id),
    "union": union(select(User.id), select(_twin.id)),
    "global table": select(Tenant.id),
    "aliased table of tenants": select(aliased(Tenant).id),
}


@pytest.mark.parametrize("shape", FILTERED)
async def test_a_query_of_any_shape_sees_its_own_rows_alone(
    two: Two, session: TenantSession, shape: str
) -> None:
    rows = {value for (value,) in (await session.execute(FILTERED[shape])).all() if value is not None}
    assert rows in ({two.my_user}, {two.mine}, {1}, {two.my_user.hex}, {str(two.my_user)})


async def test_get_finds_nothing_of_another_tenant(two: Two, session: TenantSession) -> None:
    assert await session.get(User, (two.other, two.other_user)) is None
    assert await session.get(Tenant, two.other) is None
    assert (await session.get(User, (two.mine, two.my_user))) is not None


@pytest.mark.parametrize("loading", [joinedload, selectinload])
async def test_eager_loads_from_a_foreign_parent_bring_nothing(
    two: Two, session: TenantSession, loading: Any
) -> None:
    query = select(Parent).options(loading(Parent.users))
    loaded = {parent.id: parent.users for parent in (await session.scalars(query)).unique()}
    assert [user.id for user in loaded.pop(two.mine)] == [two.my_user]
    assert all(users == [] for users in loaded.values())


async def test_a_lazy_load_from_a_foreign_parent_brings_nothing(two: Two, session: TenantSession) -> None:
    parents = list(await session.scalars(select(Parent)))
    loaded = {parent.id: await session.run_sync(lambda _, p=parent: list(p.users)) for parent in parents}
    assert [user.id for user in loaded.pop(two.mine)] == [two.my_user]
    assert all(users == [] for users in loaded.values())


async def test_a_legacy_query_is_filtered(two: Two, session: TenantSession) -> None:
    found = await session.run_sync(lambda sync: sync.query(User).all())
    assert [user.id for user in found] == [two.my_user]


async def test_a_bulk_update_or_delete_reaches_its_own_rows_alone(two: Two) -> None:
    async with tenant_session(two.database, two.mine, writes=True) as session:
        assert (await session.execute(update(User).values(full_name="mine"))).rowcount == 1  # type: ignore[attr-defined]
        assert (await session.execute(delete(User))).rowcount == 1  # type: ignore[attr-defined]
    async with system_session(two.database, "operator") as everything:
        left = list(await everything.scalars(select(User)))
    assert [(user.id, user.full_name) for user in left] == [(two.other_user, "x")]


_users = User.__table__  # type: ignore[attr-defined]
_text = text("SELECT * FROM users").columns(*_users.c)
_lightweight = table("users", column("id"), column("tenant_id"))

REFUSED = {
    "text": text("SELECT id FROM users"),
    "select of text": select(text("id FROM users")),
    "text in where": select(User.id).where(text("1=1) OR (1=1")),
    "text in order by": select(User.id).order_by(text("id")),
    "from_statement": select(User).from_statement(text("SELECT * FROM users")),
    "textual columns": text("SELECT id FROM users").columns(column("id")),
    "literal column": select(literal_column("(SELECT max(email) FROM users)")),
    "Core select": select(_users),
    "Core column beside a class": select(Tenant.id, _users.c.id),
    "Core column in where": select(Tenant.id).where(_users.c.email != ""),
    "Core exists": select(Tenant.id).where(exists(select(_users.c.id))),
    "Core column in a subquery": select(User.id, select(func.max(_users.c.email)).scalar_subquery()),
    "class of a Core subquery": select(aliased(User, select(_users).subquery()).id),
    "class of a text": select(aliased(User, _text.subquery()).id),
    "Core column, class elsewhere": select(_users.c.id).order_by(User.email),
    "update from": update(Tenant).values(name=User.email).where(User.tenant_id != Tenant.id),
    "delete using": delete(User).where(User.tenant_id == Tenant.id),
    "update from an alias": update(User).values(full_name="x").where(_twin.id != User.id),
    "join of an alias": select(Tenant.id).join(_twin, _twin.tenant_id == Tenant.id),
    "Core join": select(Tenant.id).join(_users, _users.c.tenant_id == Tenant.id),
    "Core alias": select(_users.alias().c.id),
    "lightweight table": select(_lightweight),
    "lightweight beside a class": select(Tenant.id, _lightweight.c.id),
    "Core update": update(_users).values(full_name="x"),
    "Core delete": delete(_users),
    "ORM insert": insert(User).values(id=new_id()),
    "Core insert": insert(_users).values(id=new_id()),
    "update of the tenant": update(User).values(tenant_id=new_id()),
    "update of the tenant by column": update(User).values({User.tenant_id: new_id()}),
    "update of the tenant, ordered": update(User).ordered_values((User.tenant_id, new_id())),
}


@pytest.mark.parametrize("shape", REFUSED)
async def test_what_the_criterion_cannot_reach_is_refused(session: TenantSession, shape: str) -> None:
    with pytest.raises(ScopeError):
        await session.execute(REFUSED[shape])


async def test_bulk_writes_and_raw_connections_are_refused(two: Two, session: TenantSession) -> None:
    row = {"tenant_id": two.other, "id": two.other_user, "full_name": "x"}
    with pytest.raises(ScopeError):
        await session.execute(insert(User), [row])
    with pytest.raises(ScopeError):
        await session.execute(update(User), [row])
    with pytest.raises(ScopeError):
        await session.execute(
            update(User).values(full_name=bindparam("n")), {"tenant_id": two.other, "n": ""}
        )
    with pytest.raises(ScopeError):
        await session.connection()
    for method, rows in (
        ("bulk_save_objects", [[_user(two.other, new_id())]]),
        ("bulk_insert_mappings", [User, [row]]),
        ("bulk_update_mappings", [User, [row]]),
    ):
        with pytest.raises(ScopeError):
            await session.run_sync(lambda sync, m=method, r=rows: getattr(sync, m)(*r))


async def test_rows_of_another_tenant_are_refused_at_flush(two: Two, session: TenantSession) -> None:
    session.add(_user(two.other, new_id()))
    with pytest.raises(ScopeError):
        await session.flush()


async def test_merging_a_row_of_another_tenant_is_refused(two: Two, session: TenantSession) -> None:
    await session.merge(_user(two.other, two.other_user, full_name="taken"))
    with pytest.raises(ScopeError):
        await session.flush()


async def test_a_row_never_changes_its_tenant(two: Two, session: TenantSession) -> None:
    user = await session.get(User, (two.mine, two.my_user))
    assert user is not None
    user.tenant_id = two.other
    with pytest.raises(ScopeError):
        await session.flush()


async def test_global_rows_are_not_written_here(two: Two, session: TenantSession) -> None:
    session.add(EmailCode(id=new_id(), email="a", purpose="b", code_hash="c", created_at=1, expires_at=2))
    with pytest.raises(ScopeError):
        await session.flush()


async def test_new_rows_are_stamped_and_its_own_rows_work(two: Two) -> None:
    added = new_id()
    async with tenant_session(two.database, two.mine, writes=True) as session:
        session.add(_user(None, added))
        await session.flush()
        user = await session.get(User, (two.mine, added))
        assert user is not None
        user.full_name = "Renamed"
        await session.flush()
        await session.refresh(user)
        await session.delete(await session.get(User, (two.mine, two.my_user)))
        tenant = await session.get(Tenant, two.mine)
        assert tenant is not None
        tenant.name = "New name"
    async with tenant_session(two.database, two.mine) as session:
        assert [user.full_name for user in await session.scalars(select(User))] == ["Renamed"]
        assert [tenant.name for tenant in await session.scalars(select(Tenant))] == ["New name"]


async def test_insert_once_stamps_inserts_once_and_refuses_a_foreign_row(two: Two) -> None:
    values = {"id": new_id(), "email": "a@example.com", "full_name": "x", "role": "agent"}
    values |= {"created_at": 1, "updated_at": 1}
    async with tenant_session(two.database, two.mine, writes=True) as session:
        assert await insert_once(session, User, **values) is True
        assert await insert_once(session, User, **values) is False
        with pytest.raises(ScopeError):
            await insert_once(session, User, **values, tenant_id=two.other)
        assert await session.get(User, (two.mine, values["id"])) is not None


async def test_a_reading_session_writes_nothing(two: Two) -> None:
    async with tenant_session(two.database, two.mine) as session:
        with pytest.raises(ScopeError):
            await session.execute(update(User).values(full_name="x"))
        with pytest.raises(ScopeError):
            await insert_once(session, User, id=new_id())
        session.add(_user(two.mine, new_id()))
        with pytest.raises(ScopeError):
            await session.flush()
        session.expunge_all()


async def test_a_failure_rolls_back(two: Two) -> None:
    with pytest.raises(RuntimeError):
        async with tenant_session(two.database, two.mine, writes=True) as session:
            session.add(_user(two.mine, new_id()))
            await session.flush()
            raise RuntimeError
    async with tenant_session(two.database, two.mine) as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 1
