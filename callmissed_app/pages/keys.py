"""API keys: the list, and the details of one."""

import reflex as rx

from callmissed_app.components.controls import button, copy_button
from callmissed_app.components.overlays import drawer
from callmissed_app.components.surfaces import (
    badge,
    card,
    cell,
    empty,
    facts,
    message,
    row,
    table,
    waiting_rows,
)
from callmissed_app.layout import page
from callmissed_app.pages.key_dialogs import new_secret, rotation
from callmissed_app.pages.key_form import key_form
from callmissed_app.states.key_rows import KeyRow
from callmissed_app.states.keys import KeysState

_COLUMNS = ["Name", "Status", "Allows", ("Calls a minute", "is-number"), "Budget", "Last used", "Expires"]


def _create() -> rx.Component:
    create = button("Create a key", symbol="plus", kind="primary", on_click=KeysState.open_new)
    return rx.cond(KeysState.allowed, create)


@page(
    route="/keys",
    title="API keys",
    lead="Your apps call /v1 with these. A key is shown once, when it is made.",
    on_load=KeysState.load,
    action=_create,
)
def keys() -> rx.Component:
    """The table with its drawer and dialogs, or why there is none."""
    return rx.cond(
        KeysState.allowed,
        rx.fragment(card(_list(), bare=True), _details(), key_form(), rotation(), new_secret()),
        card(
            empty(
                "key_round",
                "Keys are for owners and admins",
                "Your role does not make or see API keys. Ask an owner or admin of your organization.",
            )
        ),
    )


def _list() -> rx.Component:
    waiting = rx.fragment(*waiting_rows(len(_COLUMNS), 3))
    return rx.cond(
        KeysState.loaded & (KeysState.rows.length() == 0),
        empty(
            "key_round",
            "No keys yet",
            "With a key your code calls this gateway through any OpenAI SDK: set the base URL and the key. "
            "Give each app its own, so that you can limit and end them one by one.",
            button("Create the first", on_click=KeysState.open_new),
        ),
        table(
            _COLUMNS,
            rx.cond(KeysState.loaded, rx.foreach(KeysState.rows, _row), waiting),
            label="API keys",
        ),
    )


def _row(key: rx.Var[KeyRow]) -> rx.Component:
    return row(
        cell(
            rx.el.div(
                rx.el.div(
                    rx.el.button(
                        key.name,
                        type="button",
                        class_name="truncate strong",
                        on_click=KeysState.open_details(key.id).stop_propagation,
                    ),
                    rx.cond(key.test, badge("Test", "accent")),
                    class_name="row",
                ),
                rx.el.code(key.hint, class_name="small faint"),
                class_name="name",
            ),
            title=True,
        ),
        cell(badge(key.status, key.tone), label="Status"),
        cell(rx.el.span(key.allows, class_name="soft"), label="Allows"),
        cell(key.rpm, label="Calls a minute", number=True),
        cell(_budget(key), label="Budget"),
        cell(rx.el.span(key.last_used, class_name="soft number"), label="Last used"),
        cell(rx.el.span(key.expires, class_name="soft number"), label="Expires"),
        opens=KeysState.open_details(key.id),
        key=key.id,
        custom_attrs={"data-ended": rx.cond(key.active, "false", "true")},
    )


def _budget(key: rx.Var[KeyRow]) -> rx.Component:
    return rx.cond(
        key.share != "",
        rx.el.div(
            rx.el.span(rx.el.b(key.budget_hint), " ", key.budget, class_name="number"),
            rx.el.span(
                rx.el.span(custom_attrs={"style": rx.Var.create({"--share": key.share})}),
                class_name="meter",
                aria_hidden="true",
            ),
            class_name="budget",
        ),
        rx.el.span("No limit", class_name="soft"),
    )


def _details() -> rx.Component:
    state, key = KeysState, KeysState.chosen
    return drawer(
        key.name,
        rx.el.div(badge(key.status, key.tone), rx.cond(key.test, badge("Test", "accent")), class_name="row"),
        facts(
            ("Key", rx.el.span(rx.el.code(key.hint), class_name="row")),
            ("Id", rx.el.span(rx.el.code(key.id, class_name="small"), copy_button(key.id), class_name="row")),
            ("Services", key.services),
            ("Models", key.models),
            ("Calls a minute", key.rpm),
            ("Budget", _budget(key)),
            ("Web pages", key.domains),
            ("Reads usage of", rx.cond(key.reads_usage, "The whole organization", "This key only")),
            ("Last used", key.last_used),
            ("Expires", key.expires),
            ("Created", key.created),
        ),
        rx.cond(
            state.revoking,
            message(
                rx.el.p("Calls with this key fail within a second, for good. There is no way back."),
                rx.el.div(
                    button("Revoke it for good", kind="danger", small=True, on_click=state.revoke),
                    button("Keep it", small=True, on_click=state.ask_revoke),
                    class_name="row choices",
                ),
                tone="warn",
            ),
        ),
        open=state.details_open,
        on_close=state.close_details,
        footer=rx.cond(
            key.active,
            rx.fragment(
                button("Revoke", symbol="ban", on_click=state.ask_revoke, class_name="apart"),
                button("Rotate", symbol="refresh_cw", on_click=state.ask_rotate),
                button("Edit", symbol="pencil", on_click=state.open_edit),
            ),
            button("Remove from the list", symbol="trash_2", on_click=state.remove),
        ),
        name="key-details",
    )
