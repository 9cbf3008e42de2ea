"""Pieces of the pages outside the frame: the card one signs in and up through, and its special fields."""

from typing import Any

import reflex as rx

from callmissed_app.components.controls import button, icon_button, text_input
from callmissed_app.theme import mark


def door(*content: Any, below: rx.Component) -> rx.Component:
    """A card in the middle of the page under the product's name, with a way to the other door `below`."""
    return rx.el.main(
        rx.el.a(mark(28), rx.el.span("CallMissed"), href="/", class_name="name"),
        rx.el.div(*content, class_name="card door"),
        below,
        class_name="entrance",
    )


def password_input(purpose: str) -> rx.Component:
    """A password with an eye to look at it. `purpose` is for password managers: `new-password`, …."""
    return rx.el.div(
        text_input("password", kind="password", auto_complete=purpose, required=True),
        rx.el.span(
            icon_button(
                "eye",
                "Show the password",
                small=True,
                aria_pressed="false",
                custom_attrs={"data-reveal": "#password"},
            ),
            class_name="affix",
        ),
        class_name="affixed",
    )


def says() -> rx.Component:
    """Where a form says what went wrong as a whole; empty and hidden until then."""
    return rx.el.div(hidden=True, role="alert", class_name="message", custom_attrs={"data-says": ""})


def submit(label: str) -> rx.Component:
    """The form's one button; `assets/session.js` makes it spin."""
    return button(label, kind="primary", type="submit", class_name="is-wide")
