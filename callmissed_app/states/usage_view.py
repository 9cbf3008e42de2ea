"""What of the usage is looked at: period, filters and page, as the address of the page says."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from urllib.parse import urlencode
from uuid import UUID

from api.types import Milliseconds
from api.usage.logs import Filters
from api.usage.period import last_days

PERIODS = (("7", "7 days"), ("30", "30 days"), ("90", "90 days"))
STATUSES = (("", "Any result"), ("ok", "Succeeded"), ("error", "Failed"))
LAST_PAGE = 400
"""Further back only the CSV reaches."""

_PAGE = re.compile(r"[1-9][0-9]{0,2}")


@dataclass(frozen=True)
class View:
    """What is looked at; "" is any."""

    days: str = "30"
    model: str = ""
    status: str = ""
    key: str = ""
    page: str = "1"

    @property
    def is_filtered(self) -> bool:
        """Whether some requests of the period are left out."""
        return bool(self.model or self.status or self.key)


def view_of_address(asked: Mapping[str, str]) -> View:
    """The view that query parameters ask for; what makes no sense is as if it was not there."""
    page = asked.get("page", "")
    return View(
        days=_one_of(asked.get("days"), PERIODS, "30"),
        model=asked.get("model", "")[:200],
        status=_one_of(asked.get("status"), STATUSES, ""),
        key=asked.get("key", "") if uuid_of(asked.get("key", "")) else "",
        page=page if _PAGE.fullmatch(page) and int(page) <= LAST_PAGE else "1",
    )


def address(view: View, **changed: str) -> str:
    """Where the view is found, with some of it changed; another filter begins at its first page."""
    wanted = asdict(replace(view, **{"page": "1", **changed}))
    usual = asdict(View())
    query = {name: value for name, value in wanted.items() if value != usual[name]}
    return f"/usage?{urlencode(query)}" if query else "/usage"


def filters_of(view: View, now: Milliseconds) -> Filters:
    """The same for the rooms."""
    return Filters(
        period=last_days(int(view.days), now),
        model=view.model or None,
        status="ok" if view.status == "ok" else "error" if view.status == "error" else None,
        api_key_id=uuid_of(view.key),
    )


def uuid_of(text: str) -> UUID | None:
    """The id that a text is; None for any other text."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _one_of(value: str | None, options: tuple[tuple[str, str], ...], otherwise: str) -> str:
    return value if value is not None and value in dict(options) else otherwise
