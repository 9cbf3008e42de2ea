"""Signing up: the form, then the six digits that came by mail. Handled by `assets/session.js`."""

import reflex as rx

from callmissed_app.components.controls import button, check, field, text_input
from callmissed_app.components.door import door, password_input, says, submit
from callmissed_app.layout import page
from callmissed_app.states.entrance import EntranceState


@page(route="/sign-up", title="Create an account", guard=False, on_load=EntranceState.enter)
def sign_up() -> rx.Component:
    """Two steps in one card; only one of them is shown."""
    return door(
        _form_step(),
        _code_step(),
        below=rx.el.p(
            "Have an account? ", rx.el.a("Sign in", href="/sign-in", class_name="link"), class_name="other"
        ),
    )


def _form_step() -> rx.Component:
    return rx.el.div(
        rx.el.div(
            rx.el.h1("Create your account"),
            rx.el.p(
                rx.cond(
                    EntranceState.bonus != "",
                    rx.fragment("You start with ", EntranceState.bonus, " of credits. No card."),
                    "One key for every model, one balance for all of them.",
                ),
                class_name="soft",
            ),
            class_name="top",
        ),
        rx.el.form(
            field(
                "Full name",
                text_input("full_name", auto_complete="name", auto_focus=True, max_length=255, required=True),
                name="full_name",
            ),
            field(
                "E-mail",
                text_input("email", kind="email", auto_complete="username", required=True),
                name="email",
                hint="We send a six-digit code there.",
            ),
            field("Password", password_input("new-password"), name="password", hint="At least 8 characters."),
            rx.el.div(
                check("I accept the terms of use of this server.", name="accept_terms"),
                rx.el.span(id="accept_terms-error", class_name="error", role="alert"),
                class_name="field",
            ),
            says(),
            submit("Continue"),
            no_validate=True,
            custom_attrs={"data-session": "sign-up"},
        ),
        class_name="step",
        custom_attrs={"data-step": "form", "data-ready": rx.cond(EntranceState.ready, "true", "false")},
    )


def _code_step() -> rx.Component:
    return rx.el.div(
        rx.el.div(
            rx.el.h1("Enter the code"),
            rx.el.p(
                "Six digits, sent to ",
                rx.el.strong("your address", custom_attrs={"data-email": ""}),
                ". They work once, for 15 minutes.",
                class_name="soft",
            ),
            class_name="top",
        ),
        rx.el.div(
            rx.el.div(
                "Mail is not configured on this server, so your code is in this file: ",
                rx.el.code(""),
            ),
            hidden=True,
            class_name="message is-accent",
            custom_attrs={"data-mail-file": ""},
        ),
        rx.el.form(
            field(
                "Code",
                text_input(
                    "code",
                    input_mode="numeric",
                    auto_complete="one-time-code",
                    placeholder="000000",
                    class_name="digits",
                    required=True,
                ),
                name="code",
            ),
            says(),
            submit("Create the account"),
            rx.el.div(
                button("Send another code", kind="ghost", small=True, custom_attrs={"data-resend": ""}),
                button(
                    "Use another address", kind="ghost", small=True, custom_attrs={"data-other-address": ""}
                ),
                class_name="row is-apart",
            ),
            no_validate=True,
            custom_attrs={"data-session": "verify"},
        ),
        hidden=True,
        class_name="step",
        custom_attrs={"data-step": "code"},
    )
