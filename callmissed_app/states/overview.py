"""The first page: what is left, what was spent, how calls go, and what a newcomer does next."""

import reflex as rx

from api.errors import ApiError
from api.ledger import balance
from api.money import MICRO, rupees_text
from api.tenants.keys import list_keys
from api.types import now
from api.usage.logs import LogRow
from api.usage.reports import Overview, overview
from callmissed_app.services import reading, services
from callmissed_app.states.base import Base, handler
from callmissed_app.states.figures import ago, count, duration, moment, plural, rupees, short_day
from callmissed_app.states.snippets import LANGUAGES, snippet

NOTHING = "–"
FIRST_CALL = {"model": "auto", "messages": [{"role": "user", "content": "Namaste!"}]}


class OverviewState(Base):
    ready: bool = False

    available: str = ""
    parts: str = ""
    """What of the balance is held, and what was a present."""
    today: str = ""
    today_requests: str = ""
    month: str = ""
    month_requests: str = ""
    success: str = ""
    latency: str = ""
    slowest: str = ""

    has_spent: bool = False
    days: list[dict[str, str]] = rx.field(default_factory=list)
    top: str = ""
    spending: str = ""
    recent: list[dict[str, str]] = rx.field(default_factory=list)

    has_tried: bool = False
    has_key: bool = False
    has_called: bool = False
    language: str = "python"
    base_url: str = ""
    example: str = ""

    @rx.var
    def is_new(self) -> bool:
        """Whether any of the first steps is still to be taken."""
        return self.ready and not (self.has_tried and self.has_key and self.has_called)

    @handler
    async def load(self, caller):
        """All of the page, as it is now."""
        figures = await overview(services().database, caller, now=now())
        self.base_url = f"{services().settings.origin}/v1"
        self.example = snippet(self.language, services().settings.origin, FIRST_CALL)
        await self._load_balance(caller)
        self._show_figures(figures)
        self.recent = [line(row) for row in figures.recent]
        self.has_tried = figures.month.requests > 0
        await self._load_steps(caller)
        self.ready = True

    @handler
    async def choose_language(self, caller, language: str):
        """Show the first call in another language."""
        self.language = language if language in dict(LANGUAGES) else "python"
        self.example = snippet(self.language, services().settings.origin, FIRST_CALL)

    async def _load_balance(self, caller) -> None:
        async with reading(caller) as session:
            wallet = await balance(session)
        self.available = short(wallet.available)
        parts = [(wallet.held, "held"), (wallet.promo, "promotional")]
        self.parts = " · ".join(f"{short(amount)} {what}" for amount, what in parts if amount)

    async def _load_steps(self, caller) -> None:
        try:
            keys = await list_keys(services().database, caller)
        except ApiError:  # keys are not this person's business
            keys = []
        self.has_key = bool(keys)
        self.has_called = any(key.last_used_at for key in keys)

    def _show_figures(self, figures: Overview) -> None:
        today, month = figures.today, figures.month
        self.today, self.today_requests = short(today.charge), plural(today.requests, "request")
        self.month, self.month_requests = short(month.charge), plural(month.requests, "request")
        self.success = percent(figures.success_rate)
        fast, slow = figures.latency.p50, figures.latency.p95
        self.latency = NOTHING if fast is None else duration(fast)
        self.slowest = "of the last 7 days" if slow is None else f"median · p95 {duration(slow)}"
        self.has_spent = month.requests > 0
        highest = max(day.charge for _, day in figures.series)
        self.days, self.top = bars(figures), short(highest)
        self.spending = f"{self.month} spent in the last 30 days, at most {self.top} a day."


def short(amount: int) -> str:
    """Micro-credits to the paisa; below a rupee to the last digit: a call may cost less."""
    return rupees_text(amount) if amount >= MICRO else rupees(amount)


def percent(part: float | None) -> str:
    """A share of 0 to 1, cut to a tenth and never rounded up to all: `99.9 %`."""
    if part is None:
        return NOTHING
    tenths = int(part * 1000)
    return f"{tenths // 10}.{tenths % 10} %" if tenths % 10 else f"{tenths // 10} %"


def bars(figures: Overview) -> list[dict[str, str]]:
    """Each day as high as its share of the dearest; a day with any charge is still to be seen."""
    highest = max(day.charge for _, day in figures.series) or 1
    last = len(figures.series) - 1
    return [
        {
            "share": f"{max(2, round(100 * day.charge / highest))}%" if day.charge else "0%",
            "tip": f"{short_day(date)}: {short(day.charge)}, {plural(day.requests, 'request')}",
            "mark": "Today" if place == last else short_day(date) if place % 7 == 1 and place < 24 else "",
        }
        for place, (date, day) in enumerate(figures.series)
    ]


def line(row: LogRow) -> dict[str, str]:
    """A request as the table shows it."""
    succeeded = row.error_message is None
    return {
        "id": row.generation_id,
        "when": ago(row.created_at, now()),
        "moment": moment(row.created_at, seconds=True),
        "model": row.model,
        "tone": "good" if succeeded else "bad",
        "outcome": "OK" if succeeded else str(row.status_code),
        "why": row.error_message or "Answered",
        "tokens": f"{count(row.input_tokens)} → {count(row.output_tokens)}",
        "latency": duration(row.latency_ms),
        "cost": rupees(row.charge),
    }
