"""Random histories: the books and a model of a few lines agree after every step."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from api import ledger
from api.db.engine import Database, open_database
from api.db.session import tenant_session
from api.db.writer import Writer, open_writer
from api.settings import Settings
from api.tables import Budget, OpenHold, Transfer
from api.types import new_id
from tests.factories import give, make_prices, make_tenant, usage

AMOUNTS = st.integers(min_value=0, max_value=120)
NOW = 1_000_000


@dataclass
class Model:
    """What the wallet, the budget and the open requests should be."""

    parts: dict[str, int] = field(default_factory=lambda: {"promo": 0, "plan": 0, "paid": 0})
    ceiling: int = 0
    used: int = 0
    held_in_budget: int = 0
    open: dict[UUID, tuple[int, bool]] = field(default_factory=dict)
    """Amount held, and whether the budget is named, by request."""
    done: list[UUID] = field(default_factory=list)

    @property
    def held(self) -> int:
        return sum(amount for amount, _ in self.open.values())

    def room(self, budgeted: bool) -> int:
        free = sum(self.parts.values()) - self.held
        return max(0, min(free, self.ceiling - self.used - self.held_in_budget) if budgeted else free)

    def grow(self, request_id: UUID, amount: int) -> None:
        held, budgeted = self.open.get(request_id, (0, False))
        self.open[request_id] = (held + amount, budgeted)
        self.held_in_budget += amount if budgeted else 0

    def resolve(self, request_id: UUID, charge: int) -> None:
        held, budgeted = self.open.pop(request_id)
        self.done.append(request_id)
        if budgeted:
            self.held_in_budget -= held
            self.used += charge
        for part in ("promo", "plan", "paid"):
            burnt = min(self.parts[part], charge)
            self.parts[part] -= burnt
            charge -= burnt


class Ledger(RuleBasedStateMachine):
    """Every example is a new tenant of one database."""

    runner: ClassVar[asyncio.Runner]
    database: ClassVar[Database]
    writer: ClassVar[Writer]

    @initialize(ceiling=AMOUNTS)
    def begin(self, ceiling: int) -> None:
        self.model = Model(ceiling=ceiling)
        self.budget = new_id()
        self.tenant_id = self.runner.run(make_tenant(self.database))
        self.runner.run(self._set_ceiling(ceiling))

    def teardown(self) -> None:
        # What stays open would be swept in the next example.
        self.runner.run(ledger.sweep(self.database, self.writer, now=NOW * 2))

    async def _set_ceiling(self, ceiling: int) -> None:
        async with tenant_session(self.database, self.tenant_id, writes=True) as session:
            await ledger.set_budget(session, budget_id=self.budget, subject="key", ceiling=ceiling)

    def _do(self, verb: Any, **arguments: Any) -> Any:
        answer = self.runner.run(verb(self.writer, tenant_id=self.tenant_id, **arguments))
        self._agree()
        return answer

    @rule(amount=st.integers(1, 150), part=st.sampled_from(["promo", "plan", "paid"]))
    def credit(self, amount: int, part: Any) -> None:
        self.runner.run(give(self.database, self.tenant_id, amount, part))
        self.model.parts[part] += amount
        self._agree()

    @rule(ceiling=AMOUNTS)
    def move_the_ceiling(self, ceiling: int) -> None:
        self.runner.run(self._set_ceiling(ceiling))
        self.model.ceiling = ceiling

    @rule(amount=AMOUNTS, budgeted=st.booleans(), late=st.booleans())
    def hold(self, amount: int, budgeted: bool, late: bool) -> None:
        request_id = new_id()
        # A ceiling that was lowered below what is used leaves no room even for nothing.
        fits = amount <= sum(self.model.parts.values()) - self.model.held and not (
            budgeted and self.model.used + self.model.held_in_budget + amount > self.model.ceiling
        )
        if fits:
            self.model.open[request_id] = (0, budgeted)
            self.model.grow(request_id, amount)
        held = self._do(
            ledger.hold,
            request_id=request_id,
            amount=amount,
            budgets=[self.budget] if budgeted else [],
            context=usage(),
            expires_at=NOW - 1 if late else NOW + 1,
        )
        assert held is fits

    @precondition(lambda self: self.model.open)
    @rule(data=st.data(), amount=AMOUNTS, partial=st.booleans())
    def extend(self, data: st.DataObject, amount: int, partial: bool) -> None:
        request_id = data.draw(st.sampled_from(list(self.model.open)))
        room = self.model.room(self.model.open[request_id][1])
        granted = min(amount, room) if partial or amount <= room else 0
        self.model.grow(request_id, granted)
        assert self._do(ledger.extend, request_id=request_id, amount=amount, partial=partial) == granted

    @precondition(lambda self: self.model.open)
    @rule(data=st.data(), cost=AMOUNTS)
    def settle(self, data: st.DataObject, cost: int) -> None:
        request_id = data.draw(st.sampled_from(list(self.model.open)))
        held, budgeted = self.model.open[request_id]
        self.model.grow(request_id, max(0, min(cost - held, self.model.room(budgeted))))
        charge = min(cost, self.model.open[request_id][0])
        self.model.resolve(request_id, charge)
        assert self._do(ledger.settle, request_id=request_id, cost=cost, usage=usage(cost)) == charge

    @precondition(lambda self: self.model.open)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(list(self.model.open)))
        self.model.resolve(request_id, 0)
        assert self._do(ledger.void, request_id=request_id, usage=usage(outcome="failed")) is True

    @precondition(lambda self: self.model.done)
    @rule(data=st.data(), cost=AMOUNTS)
    def resolve_again(self, data: st.DataObject, cost: int) -> None:
        request_id = data.draw(st.sampled_from(self.model.done))
        assert self._do(ledger.settle, request_id=request_id, cost=cost, usage=usage(cost)) is None
        assert self._do(ledger.void, request_id=request_id, usage=usage()) is False
        assert self._do(ledger.extend, request_id=request_id, amount=1, partial=True) == 0

    @rule()
    def sweep(self) -> None:
        late = self.runner.run(self._late())
        for request_id in late:
            self.model.resolve(request_id, 0)
        assert self.runner.run(ledger.sweep(self.database, self.writer, now=NOW)) == len(late)
        self._agree()

    async def _late(self) -> list[UUID]:
        async with tenant_session(self.database, self.tenant_id) as session:
            return list(await session.scalars(select(OpenHold.id).where(OpenHold.expires_at <= NOW)))

    def _agree(self) -> None:
        self.runner.run(self._compare())

    async def _compare(self) -> None:
        async with tenant_session(self.database, self.tenant_id) as session:
            balance = await ledger.balance(session)
            budget = await session.get(Budget, (self.tenant_id, self.budget))
            open_holds = await session.execute(select(OpenHold.id, OpenHold.amount))
            moved = await session.execute(
                select(func.sum(Transfer.promo), func.sum(Transfer.plan), func.sum(Transfer.paid))
            )
            held = await self._sum(session, "hold")
            charged = await self._sum(session, "settle")
        assert balance == ledger.Balance(**self.model.parts, held=self.model.held)
        assert min(*self.model.parts.values(), balance.available) >= 0
        assert [amount or 0 for amount in moved.one()] == list(self.model.parts.values())
        assert dict(open_holds.all()) == {key: held for key, (held, _) in self.model.open.items()}
        assert budget is not None
        assert (budget.used, budget.held) == (self.model.used, self.model.held_in_budget)
        assert charged <= held

    async def _sum(self, session: Any, kind: str) -> int:
        return await session.scalar(select(func.sum(Transfer.amount)).where(Transfer.kind == kind)) or 0


def test_every_history_adds_up(database_settings: Settings) -> None:
    with asyncio.Runner() as runner:
        database = open_database(database_settings)
        runner.run(make_prices(database))
        writer = runner.run(open_writer(database))
        run_state_machine_as_test(
            type("Bound", (Ledger,), {"runner": runner, "database": database, "writer": writer}),
            settings=hypothesis_settings(
                max_examples=25,
                stateful_step_count=30,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(writer.close())
        report = runner.run(ledger.verify(database))
        runner.run(database.close())
    assert report.drift == []
    assert report.checked["transfers"] > 20
