"""`keys create`, `credits grant` and `ledger verify`: what whoever runs the deployment does for accounts."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.sentences import Refusal, plainly, settings
from api.settings import Settings
from api.types import Caller, new_id

if TYPE_CHECKING:
    from api.db.engine import Database
    from api.ledger import Balance, Report

keys = typer.Typer(help="API keys of an account.", no_args_is_help=True)
credits = typer.Typer(help="Credits of an account.", no_args_is_help=True)
ledger = typer.Typer(help="The books.", no_args_is_help=True)

MOST_CREDITS = 1_000_000_000

Email = Annotated[str, typer.Option(help="Address of somebody in the organization.")]


@keys.command()
def create(
    email: Email,
    name: Annotated[str, typer.Option(help="What the key is called.")] = "Command line",
    test: Annotated[
        bool, typer.Option("--test", help="A cm_test_ key: local models only, moves no money.")
    ] = False,
) -> None:
    """Make a key and print it: this once, it cannot be read again."""
    with plainly():
        print(asyncio.run(_create(settings(), email=email, name=name, test=test)))
        print("Keep it now: it is shown this once.", file=sys.stderr)


@credits.command()
def grant(
    email: Email,
    amount: Annotated[str, typer.Option("--credits", help="How many; 1 credit is 1 rupee.")],
    reason: Annotated[str, typer.Option(help="Kept with the movement.")] = "",
) -> None:
    """Give promotional credits to an organization."""
    with plainly():
        from api.money import credits_text, micro

        balance = asyncio.run(
            _grant(settings(), email=email, amount=micro(_credits_of(amount)), reason=reason)
        )
        print(f"Granted {amount} credits; the balance is {credits_text(balance.total)}.")


@ledger.command()
def verify(
    full: Annotated[bool, typer.Option("--full", help="From the first movement on.")] = False,
) -> None:
    """Recompute every balance and charge; exits non-zero and names the rows on any difference."""
    with plainly():
        report = asyncio.run(_verify(settings()))
        for line in report.drift:
            print(line, file=sys.stderr)
        counted = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.checked.items())
        print(f"Drift {len(report.drift)}. Checked: {counted}.")
        if report.drift:
            raise typer.Exit(1)


async def _create(configured: Settings, *, email: str, name: str, test: bool) -> str:
    from api.edge.fields import named
    from api.tenants.keys import NewKey, create_key

    secret = _secret(configured)
    try:
        new = NewKey(name=named(name)[:255], kind="test" if test else "live")
    except ValueError as error:
        raise Refusal(f"The name {error}.") from error
    async with _opened(configured) as database:
        owner = await _find(database, email)
        _, text = await create_key(database, secret, owner, new)
        return text


async def _grant(configured: Settings, *, email: str, amount: int, reason: str) -> "Balance":
    from api.db.session import tenant_session
    from api.ledger import balance, credit

    async with _opened(configured) as database:
        account = await _find(database, email)
        async with tenant_session(database, account.tenant_id, writes=True) as session:
            await credit(
                session,
                tenant_id=account.tenant_id,
                amount=amount,
                part="promo",
                kind="grant",
                source="promotions",
                reference=f"{new_id().hex} {reason.strip()}".strip()[:128],
            )
        async with tenant_session(database, account.tenant_id) as session:
            return await balance(session)


async def _verify(configured: Settings) -> "Report":
    from api.ledger import verify as recompute

    async with _opened(configured) as database:
        return await recompute(database)


@asynccontextmanager
async def _opened(configured: Settings) -> AsyncIterator["Database"]:
    from api.cli.database import require_migrated
    from api.db.engine import open_database

    await asyncio.to_thread(require_migrated, configured)
    database = open_database(configured)
    try:
        yield database
    finally:
        await database.close()


async def _find(database: "Database", email: str) -> Caller:
    """The owner's rights in the organization of the person with this address."""
    from sqlalchemy import select
    from sqlmodel import col

    from api.db.system import system_session
    from api.edge.fields import email_address
    from api.tables import Tenant, User

    try:
        address = email_address(email)
    except ValueError as error:
        raise Refusal(f"--email {error}.") from error
    async with system_session(database, "operator") as session:
        found = await session.execute(
            select(User, Tenant)
            .join(Tenant, col(Tenant.id) == col(User.tenant_id))
            .where(col(User.email) == address)
        )
        row = found.one_or_none()
    if row is None:
        raise Refusal(f"Nobody has signed up as {address}.")
    user, tenant = row
    return Caller(tenant_id=tenant.id, kind="session", plan=tenant.plan, user_id=user.id, role="owner")


def _credits_of(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 < amount <= MOST_CREDITS or round(amount, 6) != amount:
        raise Refusal(
            f"--credits must be a number above 0, at most {MOST_CREDITS:,}, with 6 decimals at most."
        )
    return amount


def _secret(configured: Settings) -> bytes:
    from api.tenants.secrets import load_secret

    try:
        return load_secret(configured)
    except ValueError as error:
        raise Refusal(str(error)) from error
