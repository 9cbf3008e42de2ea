"""Signing in. The form is handled by `assets/session.js`: credentials go straight to the API."""

import reflex as rx

from callmissed_app.components.controls import field, text_input
from callmissed_app.components.door import door, password_input, says, submit
from callmissed_app.layout import page
from callmissed_app.states.entrance import EntranceState


@page(route="/sign-in", title="Sign in", guard=False, on_load=EntranceState.enter)
def sign_in() -> rx.Component:
    """One form: address and password."""
    return door(
        rx.el.div(
            rx.el.h1("Sign in"),
            rx.el.p("To your CallMissed console.", class_name="soft"),
            class_name="top",
        ),
        rx.el.form(
            field(
                "E-mail",
                text_input("email", kind="email", auto_complete="username", auto_focus=True, required=True),
                name="email",
            ),
            field("Password", password_input("current-password"), name="password"),
            says(),
            submit("Sign in"),
            no_validate=True,
            custom_attrs={"data-session": "sign-in"},
        ),
        below=rx.el.p(
            "New here? ", rx.el.a("Create an account", href="/sign-up", class_name="link"), class_name="other"
        ),
    )
