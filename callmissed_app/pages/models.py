"""The models that answer now, with their prices, and what would enable the others."""

import reflex as rx

from callmissed_app.components.controls import copy_button, link_button
from callmissed_app.components.surfaces import badge, card, cell, empty, row, table, waiting_rows
from callmissed_app.layout import page
from callmissed_app.states.models import Missing, ModelsState, Offer


@page(
    route="/models",
    title="Models",
    lead="What answers on this server now. Prices are rupees for a million tokens.",
    on_load=ModelsState.load,
    action=lambda: link_button("Open the playground", "/playground", symbol="message_square", kind="primary"),
)
def models() -> rx.Component:
    """The table, and below it the rest of the catalog."""
    return rx.fragment(
        card(
            rx.cond(
                ModelsState.loaded & (ModelsState.offers.length() == 0),
                empty(
                    "boxes",
                    "No model answers yet",
                    "Set a vendor's key (see below) and start the server again.",
                ),
                _table(),
            ),
            bare=True,
        ),
        rx.cond(ModelsState.missing.length() > 0, _missing()),
    )


def _table() -> rx.Component:
    head = [
        "Model",
        "Can also",
        ("Context", "is-number"),
        ("Input", "is-number"),
        ("Output", "is-number"),
        "",
    ]
    rows = rx.cond(ModelsState.loaded, rx.foreach(ModelsState.offers, _row), rx.fragment(*waiting_rows(6)))
    return table(head, rows, label="Models that answer now")


def _row(offer: rx.Var[Offer]) -> rx.Component:
    return row(
        cell(
            rx.el.div(
                rx.el.div(
                    rx.el.span(offer.name, class_name="strong"),
                    rx.cond(offer.demo, badge("Demo", "accent")),
                    class_name="row is-wrapping",
                ),
                rx.el.div(
                    rx.el.code(offer.id, class_name="truncate soft"),
                    copy_button(offer.id, label="Copy the id"),
                    class_name="row id",
                ),
                rx.el.div(offer.description, class_name="small faint about"),
            ),
            title=True,
        ),
        cell(
            rx.el.div(
                rx.cond(offer.tools, badge("Tools")),
                rx.cond(offer.vision, badge("Images")),
                rx.cond(offer.reasoning, badge("Thinks")),
                class_name="row is-wrapping",
            ),
        ),
        cell(offer.context, number=True, label="Context"),
        cell(offer.price_in, number=True, label="Input"),
        cell(offer.price_out, number=True, label="Output"),
        cell(link_button("Try it", "/playground?model=" + offer.id, small=True), number=True),
    )


def _missing() -> rx.Component:
    return card(
        rx.el.p(
            "Set one of these variables in the environment the server starts in, then start it again.",
            class_name="soft dense",
        ),
        rx.el.ul(rx.foreach(ModelsState.missing, _missing_row), class_name="missing"),
        title="Not enabled here",
        action=rx.el.span(ModelsState.missing_number, class_name="faint dense"),
        class_name="not-enabled",
    )


def _missing_row(group: rx.Var[Missing]) -> rx.Component:
    return rx.el.li(
        rx.el.div(
            rx.cond(
                group.setting != "",
                rx.fragment(rx.el.code(group.setting), copy_button(group.setting, label="Copy the name")),
                rx.el.span(group.how),
            ),
            rx.el.span(group.number, class_name="faint small number"),
            class_name="row is-wrapping dense",
        ),
        rx.el.p(group.names, class_name="small soft"),
    )
