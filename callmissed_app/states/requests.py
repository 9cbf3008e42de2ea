"""The request log of a period, filtered, page by page; its CSV; and the receipt of each request."""

import reflex as rx

from api.errors import ApiError
from api.tenants.keys import list_keys
from api.types import now
from api.usage.export import csv_blocks
from api.usage.logs import LogRow, logs
from api.usage.period import date_of, day_of
from api.usage.receipts import receipt
from callmissed_app.services import services
from callmissed_app.states.base import Base, handler
from callmissed_app.states.figures import clock, count, duration, rupees
from callmissed_app.states.receipt import NOTHING, ReceiptView, outcome_of, view_of
from callmissed_app.states.usage import UsageState
from callmissed_app.states.usage_view import View, address, filters_of, view_of_address

PAGE = 25


class RequestsState(Base):
    loaded: bool = False
    model: str = ""
    status: str = ""
    key: str = ""
    is_filtered: bool = False
    models: list[list[str]] = rx.field(default_factory=list)
    keys: list[list[str]] = rx.field(default_factory=list)
    rows: list[dict[str, str]] = rx.field(default_factory=list)
    range: str = ""
    newer: str = ""
    """Address of the page before; "" for none."""
    older: str = ""

    receipt: ReceiptView = ReceiptView()
    receipt_open: bool = False

    _key_names: dict[str, str] = rx.field(default_factory=dict)

    @handler
    async def load(self, caller):
        """The page that the address asks for; `?receipt=` opens one."""
        view = self._view()
        self.model, self.status, self.key = view.model, view.status, view.key
        self.is_filtered = view.is_filtered
        await self._load_keys(caller)
        await self._load_models(view)
        await self._load_rows(caller, view)
        self.loaded = True
        if wanted := self.router.url.query_parameters.get("receipt"):
            await self._open(caller, wanted)

    @handler
    async def filter_model(self, caller, model: str):
        """Only this model."""
        return rx.redirect(address(self._view(), model=str(model)[:200]))

    @handler
    async def filter_status(self, caller, status: str):
        """Only what succeeded, or only what failed."""
        return rx.redirect(address(self._view(), status=str(status)[:8]))

    @handler
    async def filter_key(self, caller, key: str):
        """Only this key."""
        return rx.redirect(address(self._view(), key=str(key)[:36]))

    @handler
    async def reset_filters(self, caller):
        """Every request of the period."""
        return rx.redirect(address(self._view(), model="", status="", key=""))

    @handler
    async def open_receipt(self, caller, generation: str):
        """The receipt of one request."""
        await self._open(caller, str(generation))

    @handler
    async def close_receipt(self, caller):
        """Back to the log."""
        self.receipt_open = False
        if "receipt" in self.router.url.query_parameters:
            view = self._view()
            return rx.redirect(address(view, page=view.page))
        return None

    @handler
    async def download(self, caller):
        """The newest 5,000 lines of what is shown, as CSV."""
        filters = filters_of(self._view(), now())
        blocks = [block async for block in csv_blocks(services().database, caller, filters)]
        name = f"usage-{date_of(day_of(now())):%Y%m%d}.csv"
        return rx.download(data=b"".join(blocks).decode(), filename=name)

    def _view(self) -> View:
        return view_of_address(self.router.url.query_parameters)

    async def _open(self, caller, generation: str) -> None:
        found = await receipt(services().database, caller, generation)
        self.receipt = view_of(found, self._key_name(found.log))
        self.receipt_open = True

    async def _load_keys(self, caller) -> None:
        try:
            keys = await list_keys(services().database, caller)
        except ApiError:  # keys are not this person's business
            keys = []
        self._key_names = {str(key.id): key.name for key in keys}
        self.keys = [["", "Any key"], *([str(key.id), key.name] for key in keys)]

    async def _load_models(self, view: View) -> None:
        used = [line["name"] for line in (await self.get_state(UsageState)).models]
        names = dict.fromkeys(name for name in (*used, view.model) if name not in ("", NOTHING))
        self.models = [["", "Any model"], *([name, name] for name in names)]

    async def _load_rows(self, caller, view: View) -> None:
        skipped = (int(view.page) - 1) * PAGE
        filters = filters_of(view, now())
        found = await logs(services().database, caller, filters, limit=PAGE + 1, offset=skipped)
        self.rows = [self._line(row) for row in found[:PAGE]]
        self.range = f"{count(skipped + 1)} to {count(skipped + len(self.rows))}" if self.rows else ""
        page = int(view.page)
        self.newer = address(view, page=str(page - 1)) if page > 1 else ""
        self.older = address(view, page=str(page + 1)) if len(found) > PAGE else ""

    def _line(self, row: LogRow) -> dict[str, str]:
        tone, outcome = outcome_of(row.outcome, row.status_code)
        return {
            "id": row.generation_id,
            "when": clock(row.created_at),
            "model": row.model or NOTHING,
            "key": self._key_name(row),
            "tone": tone,
            "outcome": outcome,
            "why": row.error_message or "Answered",
            "tokens": f"{count(row.input_tokens)} → {count(row.output_tokens)}",
            "latency": duration(row.latency_ms),
            "cost": rupees(row.charge),
        }

    def _key_name(self, row: LogRow) -> str:
        """The playground's key is on no list: it carries the person."""
        known = self._key_names.get(str(row.api_key_id))
        return known or ("Playground" if row.user_id else "Deleted key" if row.api_key_id else NOTHING)
