"""What was used and spent in a period: in all, by Indian day and by model."""

import reflex as rx

from api.types import now
from api.usage.reports import Figures, Summary, summary
from callmissed_app.services import services
from callmissed_app.states.base import Base, handler
from callmissed_app.states.figures import count, duration, plural, rupees, short_day
from callmissed_app.states.receipt import NOTHING
from callmissed_app.states.usage_view import address, view_of_address

# Every so many days the axis has a date.
_MARKS = {7: 1, 30: 7, 90: 14}


class UsageState(Base):
    loaded: bool = False
    days: str = "30"
    used: bool = False

    spent: str = ""
    requests: str = ""
    success: str = ""
    tokens: str = ""
    tokens_hint: str = ""
    latency: str = ""
    latency_hint: str = ""

    bars: list[dict[str, str]] = rx.field(default_factory=list)
    top: str = ""
    label: str = ""
    models: list[dict[str, str]] = rx.field(default_factory=list)

    @handler
    async def load(self, caller):
        """The period that the address asks for, as it is now."""
        self.days = view_of_address(self.router.url.query_parameters).days
        self._show(await summary(services().database, caller, days=int(self.days), now=now()))
        self.loaded = True

    @handler
    async def choose_period(self, caller, days: str):
        """Go to another period; filters stay."""
        view = view_of_address(self.router.url.query_parameters)
        return rx.redirect(address(view, days=str(days)))

    def _show(self, found: Summary) -> None:
        totals, latency = found.totals, found.latency
        self.used = totals.requests > 0
        self.spent, self.requests = rupees(totals.charge), count(totals.requests)
        rate = totals.success_rate
        self.success = NOTHING if rate is None else f"{int(rate * 1000) / 10:g} % succeeded"
        self.tokens = count(totals.input_tokens + totals.output_tokens)
        self.tokens_hint = f"{count(totals.input_tokens)} in, {count(totals.output_tokens)} out"
        self.latency = NOTHING if latency.p50 is None else duration(latency.p50)
        self.latency_hint = "" if latency.p95 is None else f"median · 95 % within {duration(latency.p95)}"
        highest = max(day.charge for _, day in found.series)
        self.bars, self.top = bars(found.series, highest), rupees(highest)
        self.label = f"{self.spent} in {found.period_days} days, at most {self.top} a day."
        self.models = [model(name, figures, totals.charge) for name, figures in found.by_model]


def bars(series: tuple[tuple[str, Figures], ...], highest: int) -> list[dict[str, str]]:
    """Each day as high as its share of the dearest; a day with any charge is still to be seen."""
    last, step = len(series) - 1, _MARKS.get(len(series), 7)
    return [
        {
            "share": f"{max(2, round(100 * day.charge / highest))}%" if day.charge else "0%",
            "tip": f"{short_day(date)}: {rupees(day.charge)}, {plural(day.requests, 'request')}",
            "mark": "Today" if place == last else short_day(date) if (last - place) % step == 0 else "",
        }
        for place, (date, day) in enumerate(series)
    ]


def model(name: str, figures: Figures, all_charges: int) -> dict[str, str]:
    """A model's line: requests, tokens, cost, and its share of all that was charged."""
    share = max(1, round(100 * figures.charge / all_charges)) if figures.charge else 0
    return {
        "name": name or NOTHING,
        "requests": plural(figures.requests, "request"),
        "failed": plural(figures.errors, "failed", "failed") if figures.errors else "",
        "tokens_in": count(figures.input_tokens),
        "tokens_out": count(figures.output_tokens),
        "cost": rupees(figures.charge),
        "share": f"{share}%",
    }
