"""Figures of the first page."""

import pytest

from api.usage.reports import Figures, Latency, Overview
from callmissed_app.states.overview import bars, percent, short
from callmissed_app.states.shell import initials, plan_name


def month(*charges: int) -> Overview:
    """Days that cost so much, the last of them today."""
    days = tuple(
        (f"2026-11-{day:02}", Figures(requests=2, charge=charge)) for day, charge in enumerate(charges, 1)
    )
    nothing = Latency(average=None, p50=None, p95=None)
    return Overview(
        today=days[-1][1], month=Figures(), success_rate=None, latency=nothing, series=days, recent=()
    )


def test_a_day_is_as_high_as_its_share_of_the_dearest() -> None:
    assert [day["share"] for day in bars(month(0, 5_000_000, 10_000_000))] == ["0%", "50%", "100%"]


def test_a_day_that_cost_next_to_nothing_is_still_to_be_seen() -> None:
    assert bars(month(1, 10_000_000_000))[0]["share"] == "2%"


def test_a_month_without_spending_has_no_bars() -> None:
    assert {day["share"] for day in bars(month(0, 0, 0))} == {"0%"}


def test_a_bar_says_its_day_and_what_it_cost() -> None:
    assert bars(month(214, 1_23_456_780_000))[0]["tip"] == "1 Nov: ₹0.000214, 2 requests"
    assert bars(month(214, 1_23_456_780_000))[1] == {
        "share": "100%",
        "tip": "2 Nov: ₹1,23,456.78, 2 requests",
        "mark": "Today",
    }


@pytest.mark.parametrize(
    ("part", "text"), [(None, "–"), (0.0, "0 %"), (0.99999, "99.9 %"), (1.0, "100 %"), (0.9934, "99.3 %")]
)
def test_a_share_is_never_rounded_up_to_all(part: float | None, text: str) -> None:
    assert percent(part) == text


def test_money_is_cut_to_the_paisa_from_a_rupee_on() -> None:
    assert short(34_103_395) == "₹34.10"
    assert short(999_999) == "₹0.999999"
    assert short(0) == "₹0.00"


def test_people_and_plans_have_short_names() -> None:
    assert [initials(name) for name in ("Meera Iyer", "Asha", "A. P. J. Abdul Kalam", " ")] == [
        "MI",
        "A",
        "AK",
        "?",
    ]
    assert plan_name("self_hosted") == "Self-hosted plan"
