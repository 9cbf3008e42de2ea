"""Profile, organization, this device, this server."""

import reflex as rx

from callmissed_app.components.controls import button, copy_button
from callmissed_app.components.surfaces import badge, card, cell, facts, row, skeleton, table
from callmissed_app.layout import page
from callmissed_app.states.settings import SettingsState


@page(
    route="/settings",
    title="Settings",
    lead="You, your organization, and what this server can do.",
    on_load=SettingsState.load,
)
def settings() -> rx.Component:
    """The cards; the server's only for who owns it."""
    return rx.fragment(
        rx.el.div(_profile(), _organization(), class_name="pair"),
        _device(),
        rx.cond(SettingsState.is_owner, rx.fragment(_vendors(), _server())),
    )


def _profile() -> rx.Component:
    state = SettingsState
    return card(
        facts(("Name", _value(state.name)), ("E-mail", _value(state.email)), ("Role", _value(state.role))),
        title="Profile",
    )


def _organization() -> rx.Component:
    state = SettingsState
    return card(
        facts(
            ("Name", _value(state.organization)),
            ("Plan", _value(state.plan)),
            ("Short name", _value(state.slug)),
        ),
        title="Organization",
    )


def _device() -> rx.Component:
    return card(
        rx.el.div(
            rx.el.div(
                rx.el.div("You are signed in on this device.", class_name="dense strong"),
                rx.el.div(
                    "Signing out ends this session everywhere it is open, and the key the playground uses.",
                    class_name="small faint",
                ),
            ),
            button("Sign out", symbol="log_out", custom_attrs={"data-sign-out": ""}),
            class_name="row is-apart is-wrapping",
        ),
        title="This device",
    )


def _vendors() -> rx.Component:
    return card(
        table(
            ["Provider", "State", "How"],
            rx.foreach(SettingsState.vendors, _vendor),
            label="Model providers",
            phone="brief",
        ),
        title="Model providers",
        bare=True,
        footer="A provider is ready when its setting is in the server's environment. Keys are never shown.",
    )


def _vendor(vendor: rx.Var[dict[str, str]]) -> rx.Component:
    return row(
        cell(vendor["title"], title=True),
        cell(badge(vendor["state"], vendor["tone"]), label="State", lead=True),
        cell(rx.el.span(vendor["how"], class_name="soft"), label="How"),
        key=vendor["title"],
    )


def _server() -> rx.Component:
    state = SettingsState
    return card(
        facts(
            (
                "API base URL",
                rx.el.span(
                    rx.el.code(state.base_url, id="base-url"),
                    copy_button(source="#base-url", label="Copy the base URL"),
                    class_name="row",
                ),
            ),
            (
                "API description",
                rx.el.a("openapi.json", href="/openapi.json", class_name="link", target="_blank"),
            ),
            ("Mail", state.mail),
            ("Storage", state.storage),
            ("Version", state.version),
        ),
        title="This server",
    )


def _value(text: rx.Var[str]) -> rx.Component:
    return rx.cond(SettingsState.ready, text, skeleton("140px"))
