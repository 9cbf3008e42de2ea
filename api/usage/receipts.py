"""The receipt of one request: what was used, at which price, and what moved in the books for it.

Everything that is needed to compute the charge again is on it: `units x price` of every token class, their
sum, the rounding, the hold and the transfers. Receipts have no window: they are kept as long as the books.
"""

import re
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import or_, select
from sqlmodel import col

from api.catalog.prices import parts
from api.db.engine import Database
from api.db.session import TenantSession, tenant_session
from api.errors import ApiError, not_found
from api.money import PER_MILLION, charge
from api.tables import PriceVersion, Transfer, UsageRow
from api.types import Caller, Milliseconds, TokenUsage
from api.usage.logs import LogRow, log_row
from api.usage.visibility import visible

_SLACK = 1_000 << 80
"""A second in a UUIDv7: what is made in the same moment has ids in any order."""

_GENERATION_ID = re.compile(r"(?:gen|msg|resp)_([0-9a-f]{32})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One token class: `units x price = exact`, in millionths of a micro-credit."""

    unit_class: str
    units: int
    price: int
    """Micro-credits per million units."""
    exact: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One transfer of the request, in micro-credits."""

    id: UUID
    kind: str
    debit: str
    credit: str
    amount: int
    reference: str
    created_at: Milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A request, its price and its place in the books; in micro-credits where nothing else is said."""

    log: LogRow
    upstream_model: str
    attempts: int
    usage_source: str
    """`provider`, `estimate`, or `none`: where the token counts come from."""
    tokens: TokenUsage
    price_version: str
    parts: tuple[Part, ...]
    """Empty when no price was set for the request: it was refused before that."""
    exact: int
    """Sum of the parts, in millionths of a micro-credit."""
    rounding: int
    """What rounding up once added to it, in millionths of a micro-credit."""
    computed: int
    """The parts as a charge; 0 when the request was not to be charged."""
    held: int
    charge: int
    provider_loss: int
    """What the answer cost above what could be charged: borne by us."""
    movements: tuple[Movement, ...]
    settled: bool
    """Whether the hold was settled; if it was freed, or nothing was held, nothing was to be charged."""

    @property
    def agrees(self) -> bool:
        """Whether the parts come to what was charged and what we bore, and the books say the same."""
        booked = sum(movement.amount for movement in self.movements if movement.kind == "settle")
        held = sum(movement.amount for movement in self.movements if movement.kind == "hold")
        return (self.charge + self.provider_loss, booked, held) == (self.computed, self.charge, self.held)


def row_id(generation: str) -> UUID | None:
    """The usage row that `gen_…`, `msg_…` or `resp_…` names; None for any other text."""
    match = _GENERATION_ID.fullmatch(generation)
    return UUID(hex=match[1]) if match else None


async def receipt(database: Database, caller: Caller, generation: str) -> Receipt:
    """The receipt of a request `caller` may see. Raises the same 404 for any other id, whatever it is."""
    wanted = row_id(generation)
    if wanted is None:
        raise _no_such_generation()
    async with tenant_session(database, caller.tenant_id) as session:
        row = await session.scalar(select(UsageRow).where(col(UsageRow.id) == wanted, visible(caller)))
        if row is None:
            raise _no_such_generation()
        version = await session.get(PriceVersion, row.price_version)
        movements = await _movements(session, row)
    return _receipt(row, version.prices if version else {}, movements)


async def _movements(session: TenantSession, row: UsageRow) -> tuple[Movement, ...]:
    """What moved for the request, in the order it moved.

    Its first hold has the request's id, and its end names it; both are looked up. Only when more than that
    was held are the further holds searched for, between the two: ids are sorted by time.
    """
    transfer_id, resolves = col(Transfer.id), col(Transfer.resolves)
    found = list(
        await session.scalars(select(Transfer).where(or_(transfer_id == row.id, resolves == row.id)))
    )
    held = sum(transfer.amount for transfer in found if transfer.kind == "hold")
    end = max((transfer.id for transfer in found), default=row.id)
    if held < row.held:
        reference = col(Transfer.reference)
        found += await session.scalars(
            select(Transfer).where(
                transfer_id > UUID(int=row.id.int - _SLACK),
                transfer_id != row.id,
                transfer_id < UUID(int=end.int + _SLACK),
                col(Transfer.kind) == "hold",
                or_(reference == f"overrun:{row.id.hex}", reference.startswith(f"{row.id.hex}:")),
            )
        )
    return tuple(_movement(transfer) for transfer in sorted(found, key=_order))


def _order(transfer: Transfer) -> tuple[bool, bool, Milliseconds, UUID]:
    return (
        transfer.kind != "hold",
        transfer.reference.startswith("overrun:"),
        transfer.created_at,
        transfer.id,
    )


def _movement(transfer: Transfer) -> Movement:
    return Movement(
        id=transfer.id,
        kind=transfer.kind,
        debit=transfer.debit,
        credit=transfer.credit,
        amount=transfer.amount,
        reference=transfer.reference,
        created_at=transfer.created_at,
    )


def _receipt(row: UsageRow, prices: dict[str, int], movements: tuple[Movement, ...]) -> Receipt:
    tokens = TokenUsage(
        input=row.input_tokens,
        cached=row.cached_tokens,
        cache_write=row.cache_write_tokens,
        output=row.output_tokens,
        reasoning=row.reasoning_tokens,
    )
    priced = tuple(
        Part(unit_class=name, units=units, price=price, exact=units * price)
        for name, units, price in (parts(tokens, prices) if prices else ())
    )
    exact = sum(part.exact for part in priced)
    rounded = charge(*((part.units, part.price) for part in priced))
    settled = any(movement.kind == "settle" for movement in movements)
    return Receipt(
        log=log_row(row),
        upstream_model=row.upstream_model,
        attempts=row.attempts,
        usage_source=row.usage_source,
        tokens=tokens,
        price_version=row.price_version,
        parts=priced,
        exact=exact,
        rounding=rounded * PER_MILLION - exact,
        computed=rounded if settled else 0,
        held=row.held,
        charge=row.charge,
        provider_loss=row.provider_loss,
        movements=movements,
        settled=settled,
    )


def _no_such_generation() -> ApiError:
    return not_found("Generation")
