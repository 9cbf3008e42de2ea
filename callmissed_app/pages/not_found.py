"""No page at this address."""

import reflex as rx

from callmissed_app.components.controls import link, link_button
from callmissed_app.components.surfaces import empty
from callmissed_app.layout import page
from callmissed_app.theme import mark


@page(route="404", title="Page not found", guard=False)
def not_found() -> rx.Component:
    """Says so, and offers the way back."""
    return rx.el.main(
        link(mark(28), rx.el.span("CallMissed"), href="/", class_name="name"),
        empty(
            "map_pin_off",
            "There is no page at this address",
            "It may have moved, or the address has a typo.",
            link_button("Go to the overview", "/", kind="primary"),
        ),
        class_name="entrance",
    )
