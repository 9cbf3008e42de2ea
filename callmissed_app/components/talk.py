"""Questions and answers under each other, each answer with its receipt line."""

from typing import Any

import reflex as rx

from callmissed_app.components.controls import button, copy_button, icon, link
from callmissed_app.components.markdown import markdown


def past(exchange: Any, *, is_last: Any, busy: Any, on_retry: Any) -> rx.Component:
    """An answered question: what was said, how it ended, what it cost."""
    again = button(
        "Try again",
        symbol="rotate_cw",
        kind="ghost",
        small=True,
        on_click=on_retry,
        disabled=busy,
        class_name="again",
    )
    return rx.el.article(
        _question(exchange.question),
        rx.el.div(
            rx.el.div(exchange.model, class_name="who"),
            _thinking(exchange.thinking),
            rx.cond(exchange.answer != "", markdown(exchange.answer)),
            rx.cond(exchange.problem != "", _problem(exchange.problem, exchange.advice)),
            rx.cond(exchange.note != "", rx.el.p(exchange.note, class_name="small soft")),
            rx.el.footer(
                rx.el.span(exchange.cost, class_name="cost number"),
                rx.cond(exchange.used != "", rx.el.span(exchange.used, class_name="number")),
                rx.el.span(exchange.time, class_name="number"),
                rx.cond(
                    exchange.generation != "",
                    link("Receipt", href="/usage?receipt=" + exchange.generation, class_name="link"),
                ),
                rx.el.span(
                    rx.cond(exchange.answer != "", copy_button(exchange.answer, label="Copy the answer")),
                    rx.cond(is_last, again),
                    class_name="acts",
                ),
            ),
            class_name="answer",
        ),
        class_name="exchange",
    )


def coming(*, asked: Any, model: Any, thinking: Any, text: Any) -> rx.Component:
    """The question just asked and as much of its answer as there is."""
    waiting = rx.el.div(
        *(rx.el.i() for _ in range(3)), class_name="waiting", role="status", aria_label="Waiting"
    )
    return rx.el.article(
        _question(asked),
        rx.el.div(
            rx.el.div(model, class_name="who"),
            rx.cond(
                thinking != "",
                rx.el.details(
                    rx.el.summary("Thinking"),
                    rx.el.div(thinking),
                    class_name="thinking",
                    open=True,
                ),
            ),
            rx.cond(text != "", markdown(text), rx.cond(thinking == "", waiting)),
            class_name="answer is-coming",
        ),
        class_name="exchange",
    )


def _question(text: Any) -> rx.Component:
    return rx.el.div(rx.el.p(text), class_name="question")


def _thinking(text: Any) -> rx.Component:
    return rx.cond(
        text != "",
        rx.el.details(rx.el.summary("Thinking"), rx.el.div(text), class_name="thinking"),
    )


def _problem(problem: Any, advice: Any) -> rx.Component:
    return rx.el.div(
        icon("circle_alert"),
        rx.el.div(rx.el.p(problem), rx.cond(advice != "", rx.el.p(advice, class_name="advice"))),
        class_name="message is-bad",
        role="alert",
    )
