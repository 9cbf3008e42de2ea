"""Remembers every price list that was ever in force, so that old charges can be computed again."""

from api.catalog.catalog import Catalog
from api.db.engine import Database
from api.db.session import insert_once
from api.db.system import system_session
from api.tables import PriceVersion
from api.types import now


async def remember_prices(database: Database, catalog: Catalog) -> None:
    """Every price version of `catalog` is stored afterwards; versions of the past stay as they are."""
    async with system_session(database, "catalog", writes=True) as session:
        for model in catalog.models.values():
            await insert_once(
                session,
                PriceVersion,
                id=model.price_version,
                model=model.id,
                prices=dict(model.prices),
                created_at=now(),
            )
