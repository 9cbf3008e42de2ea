"""Usage: what was spent, by day and by model, and the log of requests with a receipt each."""

import reflex as rx

from callmissed_app.components.chart import bars
from callmissed_app.components.controls import button, link, link_button, segments, select
from callmissed_app.components.surfaces import (
    badge,
    card,
    cell,
    empty,
    row,
    skeleton,
    stat,
    stats,
    table,
    waiting_rows,
)
from callmissed_app.layout import page
from callmissed_app.pages.receipt_drawer import receipt_drawer
from callmissed_app.states.requests import RequestsState
from callmissed_app.states.usage import UsageState
from callmissed_app.states.usage_view import PERIODS, STATUSES

_COLUMNS = [
    "Time",
    "Model",
    "Key",
    "Result",
    ("Tokens", "is-number"),
    ("Latency", "is-number"),
    ("Cost", "is-number"),
]


@page(
    route="/usage",
    title="Usage",
    lead="What was called and what it cost. Days are Indian days.",
    on_load=[UsageState.load, RequestsState.load],
    action=lambda: segments(PERIODS, UsageState.days, UsageState.choose_period, label="Period"),
)
def usage() -> rx.Component:
    """Sums, the days, the models, the log."""
    return rx.fragment(
        _sums(), rx.el.div(_days(), _models(), class_name="usage-charts"), _log(), receipt_drawer()
    )


def _sums() -> rx.Component:
    state, ready = UsageState, UsageState.loaded
    return stats(
        stat("Spent", state.spent, ready=ready),
        stat("Requests", state.requests, hint=state.success, ready=ready),
        stat("Tokens", state.tokens, hint=state.tokens_hint, ready=ready),
        stat("Latency", state.latency, hint=state.latency_hint, ready=ready),
        column="150px",
    )


def _days() -> rx.Component:
    state = UsageState
    drawn = rx.cond(
        state.used,
        bars(state.bars, top=state.top, label=state.label),
        empty("chart_column", "Nothing in this period", "Every Indian day with a call gets a bar here."),
    )
    return card(rx.cond(state.loaded, drawn, skeleton("100%", "190px")), title="Spending by day")


def _models() -> rx.Component:
    state = UsageState
    listed = rx.el.ul(rx.foreach(state.models, _model), class_name="by-model")
    nothing = empty("boxes", "No model was asked", "The dearest models of the period stand here.")
    return card(
        rx.cond(state.loaded, rx.cond(state.used, listed, nothing), skeleton("100%", "190px")),
        title="By model",
    )


def _model(line: rx.Var[dict[str, str]]) -> rx.Component:
    return rx.el.li(
        rx.el.div(
            rx.el.span(line["name"], class_name="truncate strong"),
            rx.el.span(line["cost"], class_name="number strong"),
            class_name="row is-apart",
        ),
        rx.el.span(
            rx.el.span(custom_attrs={"style": {"--share": line["share"]}}),
            class_name="meter",
            aria_hidden="true",
        ),
        rx.el.div(
            rx.el.span(line["requests"]),
            rx.cond(line["failed"] != "", rx.el.span(line["failed"], class_name="failed")),
            rx.el.span(line["tokens_in"], " → ", line["tokens_out"], " tokens"),
            class_name="row is-wrapping small faint number",
        ),
        key=line["name"],
    )


def _log() -> rx.Component:
    state = RequestsState
    return card(
        _filters(),
        rx.cond(
            state.loaded & (state.rows.length() == 0),
            rx.cond(state.is_filtered, _no_match(), _no_requests()),
            table(
                _COLUMNS,
                rx.cond(
                    state.loaded, rx.foreach(state.rows, _row), rx.fragment(*waiting_rows(len(_COLUMNS), 6))
                ),
                label="Requests",
                phone="brief",
            ),
        ),
        rx.cond(state.range != "", _pages()),
        title="Requests",
        action=button("CSV", symbol="download", kind="ghost", small=True, on_click=state.download),
        bare=True,
    )


def _filters() -> rx.Component:
    state = RequestsState
    return rx.el.div(
        select("by-model", state.models, value=state.model, on_change=state.filter_model, aria_label="Model"),
        select("by-status", STATUSES, value=state.status, on_change=state.filter_status, aria_label="Result"),
        rx.cond(
            state.keys.length() > 1,
            select("by-key", state.keys, value=state.key, on_change=state.filter_key, aria_label="Key"),
        ),
        rx.cond(
            state.is_filtered,
            button("Show all", symbol="x", kind="ghost", on_click=state.reset_filters),
        ),
        class_name="filters",
    )


def _row(line: rx.Var[dict[str, str]]) -> rx.Component:
    state = RequestsState
    return row(
        cell(
            rx.el.button(
                line["when"],
                type="button",
                class_name="number",
                on_click=state.open_receipt(line["id"]).stop_propagation,
            ),
            label="Time",
        ),
        cell(rx.el.span(line["model"], class_name="truncate"), title=True),
        cell(rx.el.span(line["key"], class_name="truncate soft"), label="Key"),
        cell(badge(line["outcome"], line["tone"], title=line["why"]), label="Result"),
        cell(line["tokens"], label="Tokens in → out", number=True),
        cell(line["latency"], label="Latency", number=True),
        cell(line["cost"], label="Cost", number=True, lead=True),
        opens=state.open_receipt(line["id"]),
        key=line["id"],
    )


def _pages() -> rx.Component:
    state = RequestsState
    return rx.el.footer(
        rx.el.span(state.range, class_name="number"),
        rx.el.span(
            rx.cond(state.newer != "", link_button("Newer", state.newer, symbol="chevron_left", small=True)),
            rx.cond(state.older != "", link_button("Older", state.older, symbol="chevron_right", small=True)),
            class_name="row",
        ),
        class_name="pages",
    )


def _no_match() -> rx.Component:
    return empty(
        "list_filter",
        "No request like that",
        "None in this period has this model, result and key.",
        button("Show all", on_click=RequestsState.reset_filters),
    )


def _no_requests() -> rx.Component:
    return empty(
        "arrow_left_right",
        "No requests in this period",
        rx.fragment(
            "Every call shows up here at once, with its tokens, its cost and a receipt. Make one in the ",
            link("playground", href="/playground", class_name="link"),
            ", or from your code with an ",
            link("API key", href="/keys", class_name="link"),
            ".",
        ),
    )
