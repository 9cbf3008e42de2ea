"""Which usage rows of its organization a caller may see."""

from sqlalchemy import ColumnElement, false, true
from sqlmodel import col

from api.tables import UsageRow
from api.types import Caller

READ_SCOPE = "usage:read"


def visible(caller: Caller) -> ColumnElement[bool]:
    """The condition on `UsageRow` that leaves what `caller` may see, within the tenant of its session.

    An owner or admin sees the whole organization, an agent the rows that carry their user id; so does a key
    that acts for such a person. Any other key sees its own rows, or with `usage:read` (or `*`) all.
    """
    if caller.role in ("owner", "admin"):
        return true()
    if caller.role == "agent":
        return col(UsageRow.user_id) == caller.user_id if caller.user_id else false()
    if caller.kind == "key" and caller.scopes & {READ_SCOPE, "*"}:
        return true()
    return col(UsageRow.api_key_id) == caller.key_id if caller.key_id else false()
