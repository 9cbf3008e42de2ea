"""Rotating a key, and the secret that is shown once."""

import reflex as rx

from callmissed_app.components.controls import button, field, segments, select
from callmissed_app.components.overlays import dialog
from callmissed_app.components.surfaces import code_block, message, secret
from callmissed_app.states.key_form import OVERLAPS
from callmissed_app.states.keys import KeysState
from callmissed_app.states.snippets import LANGUAGES


def rotation() -> rx.Component:
    """A new secret for a key that is in use."""
    state = KeysState
    return dialog(
        "Rotate " + state.chosen.name,
        rx.el.p(
            "The key gets a new secret and keeps its name, limits and history. Until the old secret ends, "
            "both work: time to put the new one everywhere.",
            class_name="soft dense",
        ),
        rx.el.form(
            field("The old secret ends", select("overlap", OVERLAPS, default_value="24"), name="overlap"),
            id="rotation-form",
            on_submit=state.rotate,
        ),
        open=state.rotating,
        on_close=state.ask_rotate,
        footer=rx.fragment(
            button("Cancel", on_click=state.ask_rotate),
            button("Rotate", kind="primary", type="submit", custom_attrs={"form": "rotation-form"}),
        ),
        name="rotation",
    )


def new_secret() -> rx.Component:
    """The plaintext of a key just made, and the first call with it."""
    state = KeysState
    return dialog(
        state.chosen.name,
        message("Copy the key now. It is shown this once and cannot be read again.", tone="warn"),
        secret(state.secret, name="new-secret"),
        segments(LANGUAGES, state.language, state.choose_language, label="Language"),
        code_block(state.code, name="first-call"),
        open=state.secret != "",
        on_close=state.forget_secret(False),
        footer=rx.fragment(
            rx.cond(
                state.secret_asked,
                rx.el.span("Closing again loses it. Have you copied it?", class_name="small soft apart"),
            ),
            button("I have copied it", kind="primary", on_click=state.forget_secret(True)),
        ),
        large=True,
        name="secret-dialog",
    )
