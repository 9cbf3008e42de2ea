"""The first page after signing in."""

import reflex as rx

from callmissed_app.components.chart import bars
from callmissed_app.components.controls import copy_button, icon, link, link_button, segments
from callmissed_app.components.surfaces import (
    badge,
    card,
    cell,
    code_block,
    empty,
    row,
    skeleton,
    stat,
    stats,
    table,
    waiting_rows,
)
from callmissed_app.layout import page
from callmissed_app.states.overview import OverviewState

_COLUMNS = [
    "Model",
    "When",
    "Result",
    ("Tokens", "is-number"),
    ("Latency", "is-number"),
    ("Cost", "is-number"),
]


@page(
    route="/",
    title="Overview",
    lead="Your balance, your spending and how your calls are doing. Days are in Indian time.",
    on_load=OverviewState.load,
    action=lambda: link_button("Open the playground", "/playground", symbol="message_square", kind="primary"),
)
def overview() -> rx.Component:
    """Figures, the first steps while there are any, the month, the newest requests."""
    return rx.fragment(_figures(), rx.cond(OverviewState.is_new, _first_steps()), _month(), _recent())


def _figures() -> rx.Component:
    state, ready = OverviewState, OverviewState.ready
    return stats(
        stat("Available balance", state.available, hint=state.parts, ready=ready),
        stat("Spent today", state.today, hint=state.today_requests, ready=ready),
        stat("Spent in 30 days", state.month, hint=state.month_requests, ready=ready),
        stat("Success rate", state.success, hint="of the last 7 days", ready=ready),
        stat("Latency", state.latency, hint=state.slowest, ready=ready),
        column="168px",
    )


def _first_steps() -> rx.Component:
    state = OverviewState
    return card(
        rx.el.div(
            rx.el.ol(
                _step(
                    state.has_tried,
                    "Try a model",
                    "The playground calls the same gateway as your code and shows what each answer cost.",
                    link("Open the playground", href="/playground", class_name="link"),
                ),
                _step(
                    state.has_key,
                    "Make an API key",
                    "It is shown once. Limit it to models, a budget or your domains if you like.",
                    link("Create a key", href="/keys?new=1", class_name="link"),
                ),
                _step(
                    state.has_called,
                    "Call it from your code",
                    "Any OpenAI SDK works: change the base URL and the key.",
                    rx.fragment(
                        rx.el.code(state.base_url, id="base-url", class_name="dense"),
                        copy_button(source="#base-url", label="Copy the base URL"),
                    ),
                ),
                class_name="steps",
            ),
            rx.el.div(
                segments(
                    (("python", "Python"), ("javascript", "JavaScript"), ("curl", "curl")),
                    state.language,
                    state.choose_language,
                    label="Language of the example",
                ),
                code_block(state.example, name="first-call"),
                class_name="stack example",
            ),
            class_name="first-steps",
        ),
        title="Start here",
    )


def _step(done: rx.Var[bool], title: str, text: str, action: rx.Component) -> rx.Component:
    return rx.el.li(
        rx.el.span(rx.cond(done, icon("check", 14), rx.fragment()), class_name="tick"),
        rx.el.div(
            rx.el.h3(title, rx.el.span(rx.cond(done, " (done)", ""), class_name="for-screen-readers")),
            rx.el.p(text),
            rx.el.div(action, class_name="row"),
        ),
        class_name=rx.cond(done, "is-done", ""),
    )


def _month() -> rx.Component:
    state = OverviewState
    drawn = rx.cond(
        state.has_spent,
        bars(state.days, top=state.top, label=state.spending),
        empty("chart_column", "No spending yet", "After your first call, each day gets a bar here."),
    )
    return card(
        rx.cond(state.ready, drawn, skeleton("100%", "190px")),
        title="Spending by day",
        action=link("Details", href="/usage", class_name="link dense"),
    )


def _recent() -> rx.Component:
    state = OverviewState
    shown = rx.cond(
        state.recent.length() > 0,
        table(_COLUMNS, rx.foreach(state.recent, _request), label="Newest requests", phone="brief"),
        empty(
            "arrow_left_right",
            "No requests yet",
            "Every call to /v1 shows up here within a second, with its tokens and its cost.",
            link_button("Try a model", "/playground"),
        ),
    )
    return card(
        rx.cond(state.ready, shown, table(_COLUMNS, waiting_rows(6), label="Newest requests, loading")),
        title="Newest requests",
        action=link("All requests", href="/usage", class_name="link dense"),
        bare=True,
    )


def _request(request: rx.Var[dict[str, str]]) -> rx.Component:
    return row(
        cell(rx.el.span(request["model"], class_name="truncate"), title=True),
        cell(rx.el.span(request["when"], title=request["moment"], class_name="soft"), label="When"),
        cell(badge(request["outcome"], request["tone"], title=request["why"]), label="Result"),
        cell(request["tokens"], label="Tokens in → out", number=True),
        cell(request["latency"], label="Latency", number=True),
        cell(request["cost"], label="Cost", number=True, lead=True),
        key=request["id"],
    )
