"""The receipt of a request: the tokens times their price, and what moved in the books."""

import reflex as rx

from callmissed_app.components.controls import copy_button, icon
from callmissed_app.components.overlays import drawer
from callmissed_app.components.surfaces import badge, cell, facts, message, row
from callmissed_app.states.requests import RequestsState


def receipt_drawer() -> rx.Component:
    """Open while the state says so."""
    shown = RequestsState.receipt
    return drawer(
        "Receipt",
        rx.el.div(
            rx.el.div(shown.cost, class_name="amount number"),
            rx.el.div(
                badge(shown.outcome, shown.tone),
                rx.el.span(shown.model, class_name="strong"),
                class_name="row",
            ),
            class_name="total",
        ),
        rx.cond(shown.why != "", message(shown.why, tone="warn")),
        rx.cond(shown.parts.length() > 0, _charge()),
        _request(),
        rx.cond(shown.moves.length() > 0, _moves()),
        open=RequestsState.receipt_open,
        on_close=RequestsState.close_receipt,
        name="receipt",
    )


def _charge() -> rx.Component:
    shown = RequestsState.receipt
    figures = map(_head, ("Number", "₹ per million", "Amount"))
    verdict = rx.cond(
        shown.agrees,
        rx.el.span(icon("circle_check", 14), "Recomputed: matches", class_name="verdict is-good"),
        rx.el.span(icon("circle_alert", 14), "Recomputed: differs", class_name="verdict is-bad"),
    )
    return rx.el.section(
        rx.el.h3("How the charge came about"),
        rx.el.div(
            rx.el.table(
                rx.el.thead(rx.el.tr(_head("Tokens", ""), *figures)),
                rx.el.tbody(rx.foreach(shown.parts, _part)),
                aria_label="Token classes",
                class_name="table",
            ),
            facts(
                ("Sum", _number(shown.sum)),
                ("Rounded up once", _number(shown.computed)),
                ("Held before the call", _number(shown.held)),
                ("Charged", rx.el.b(shown.charged, class_name="number")),
            ),
            rx.cond(
                shown.loss != "",
                rx.el.p("Not charged, borne by this service: ", shown.loss, class_name="small soft loss"),
            ),
            class_name="slip",
        ),
        rx.el.div(
            verdict,
            rx.el.span("Price ", rx.el.code(shown.price_version), class_name="faint"),
            class_name="under",
        ),
    )


def _head(name: str, kind: str = "is-number") -> rx.Component:
    return rx.el.th(name, scope="col", class_name=kind)


def _part(part: rx.Var[dict[str, str]]) -> rx.Component:
    return row(
        cell(part["name"]),
        cell(part["units"], number=True),
        cell(part["price"], number=True),
        cell(part["amount"], number=True),
    )


def _request() -> rx.Component:
    shown = RequestsState.receipt
    return rx.el.section(
        rx.el.h3("Request"),
        facts(
            (
                "Id",
                rx.el.span(
                    rx.el.code(shown.id, class_name="small"),
                    copy_button(shown.id, label="Copy the id"),
                    class_name="row",
                ),
            ),
            ("Time", shown.when),
            ("Key", shown.key),
            ("Endpoint", rx.el.code(shown.endpoint, class_name="small")),
            ("Provider", shown.provider),
            ("Answer", shown.finish),
            ("Latency", shown.latency),
            ("First byte", shown.first),
            ("Tries", shown.attempts),
            ("Tokens", shown.counted),
            ("Thinking", rx.cond(shown.reasoning != "", shown.reasoning + " of the output", "–")),
            ("Session, trace", rx.cond(shown.trace != "", shown.trace, "–")),
        ),
    )


def _moves() -> rx.Component:
    return rx.el.section(
        rx.el.h3("In the books"),
        rx.el.ul(rx.foreach(RequestsState.receipt.moves, _move), class_name="moves"),
    )


def _move(move: rx.Var[dict[str, str]]) -> rx.Component:
    return rx.el.li(
        rx.el.div(
            rx.el.span(move["kind"], class_name="strong"),
            rx.el.span(move["amount"], class_name="number"),
            class_name="row is-apart",
        ),
        rx.el.div(
            rx.el.code(move["way"], class_name="small"),
            rx.el.span(move["when"], class_name="small number"),
            class_name="row is-apart faint",
        ),
    )


def _number(text: rx.Var[str]) -> rx.Component:
    return rx.el.span(text, class_name="number")
