"""The form that makes an API key or changes one."""

from typing import Any

import reflex as rx

from callmissed_app.components.controls import button, check, field, select, text_input
from callmissed_app.components.overlays import dialog
from callmissed_app.states.keys import KeysState

_EXPIRIES = (
    ("never", "Never"),
    ("7", "In 7 days"),
    ("30", "In 30 days"),
    ("90", "In 90 days"),
    ("365", "In a year"),
)
_SERVICES = (
    ("llm", "Chat"),
    ("stt", "Speech to text"),
    ("tts", "Text to speech"),
    ("search", "Search"),
    ("image", "Images"),
)


def key_form() -> rx.Component:
    """Makes a key or changes one."""
    state = KeysState
    editing = state.draft.id != ""
    return dialog(
        rx.cond(editing, "Edit key", "Create a key"),
        rx.el.form(
            _basics(editing),
            rx.el.details(
                rx.el.summary("More"), _more(editing), class_name="more-fields", open=state.more_open
            ),
            id="key-form",
            on_submit=state.save,
            class_name="stack",
            key=state.draft_number,
            no_validate=True,
        ),
        open=state.form_open,
        on_close=state.close_form,
        footer=rx.fragment(
            button("Cancel", on_click=state.close_form),
            button(
                rx.cond(editing, "Save", "Create"),
                kind="primary",
                type="submit",
                custom_attrs={"form": "key-form"},
            ),
        ),
        name="key-dialog",
    )


def _basics(editing: rx.Var[bool]) -> rx.Component:
    draft, errors = KeysState.draft, KeysState.errors
    return rx.fragment(
        field(
            "Name",
            _input("name", default_value=draft.name, placeholder="Website, staging …", focused=True),
            name="name",
            error=errors["name"],
        ),
        rx.cond(
            editing,
            rx.fragment(),
            field(
                "Kind",
                select(
                    "kind",
                    (
                        ("live", "Live: every model, spends credits"),
                        ("test", "Test: models of this server, free"),
                    ),
                ),
                name="kind",
            ),
        ),
        rx.el.div(
            field(
                "Budget in ₹",
                _input("budget", default_value=draft.budget, placeholder="No limit"),
                name="budget",
                hint="What it may ever spend.",
                error=errors["budget"],
            ),
            rx.cond(
                editing,
                field(
                    "Expires",
                    _expiry(keeping="As it is: " + rx.cond(draft.ends != "", draft.ends, "never")),
                    name="expiry",
                ),
                field("Expires", _expiry(), name="expiry"),
            ),
            class_name="pair",
        ),
    )


def _input(name: str, *, focused: bool = False, **props: Any) -> rx.Component:
    wrong = rx.cond(KeysState.errors.contains(name), "true", "false")
    # React's own `auto_focus` is over before the dialog opens; the attribute is what the dialog looks for.
    first = {"autofocus": ""} if focused else {}
    return text_input(name, custom_attrs={"aria-invalid": wrong, **first}, **props)


def _expiry(keeping: rx.Var[str] | None = None) -> rx.Component:
    """When the key ends; first of all as it is, when there is one already."""
    if keeping is None:
        return select("expiry", _EXPIRIES)
    return select("expiry", [("keep", keeping), *_EXPIRIES])


def _more(editing: rx.Var[bool]) -> rx.Component:
    draft, errors = KeysState.draft, KeysState.errors
    return rx.el.div(
        _services(),
        _models(),
        field(
            "Calls a minute",
            _input("rpm", default_value=draft.rpm, placeholder="As the plan says", input_mode="numeric"),
            name="rpm",
            error=errors["rpm"],
        ),
        field(
            "Web pages",
            _input("domains", default_value=draft.domains, placeholder="example.com, *.example.com"),
            name="domains",
            hint="Only pages of these sites may use the key. Empty: everywhere, servers included.",
            error=errors["domains"],
        ),
        check(
            "May read the usage of the whole organization",
            name="reads_usage",
            default_checked=draft.reads_usage,
        ),
        class_name="stack",
    )


def _services() -> rx.Component:
    draft, errors = KeysState.draft, KeysState.errors
    ticks = (
        check(label, name="permission", value=value, default_checked=draft.permissions.contains(value))
        for value, label in _SERVICES
    )
    return rx.el.fieldset(
        rx.el.legend("Services"),
        rx.el.div(*ticks, class_name="checks"),
        rx.el.span(errors["permission"], class_name="error", role="alert"),
        class_name="field",
    )


def _models() -> rx.Component:
    def choice(name: rx.Var[str]) -> rx.Component:
        ticked = KeysState.draft.models.contains(name)
        box = rx.el.input(type="checkbox", name="model", value=name, default_checked=ticked)
        return rx.el.label(box, rx.el.span(name), class_name="check")

    return rx.el.fieldset(
        rx.el.legend("Models"),
        rx.el.span("None ticked: all.", class_name="hint"),
        rx.el.div(rx.foreach(KeysState.choices, choice), class_name="checks is-long"),
        class_name="field",
    )
