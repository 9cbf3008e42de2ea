"""What every page has besides itself: palette, notice of the last action, banner of a lost connection."""

from collections.abc import Sequence
from typing import Any, Protocol

import reflex as rx
from reflex_base.vars.function import ArgsFunctionOperation
from reflex_components_core.base.error_boundary import ErrorBoundary
from reflex_components_core.core.banner import has_too_many_connection_errors

from callmissed_app.components.controls import icon, link
from callmissed_app.components.surfaces import empty


class Destination(Protocol):
    """A page one can go to."""

    route: str
    title: str
    symbol: str
    words: str


def palette(places: Sequence[Destination]) -> rx.Component:
    """Ctrl K: go to a page or do one of a few things. `assets/console.js` filters and moves in it."""
    commands = [
        *(
            (link(icon(place.symbol), place.title, href=place.route, class_name="command"), place.words)
            for place in places
        ),
        (link(icon("plus"), "Create an API key", href="/keys?new=1", class_name="command"), "new secret"),
        (_action("contrast", "Switch light or dark", "theme"), "theme mode colour"),
        (_action("log_out", "Sign out", "sign-out"), "leave log out"),
    ]
    return rx.el.dialog(
        rx.el.div(
            icon("search"),
            rx.el.input(
                id="palette-input",
                type="text",
                placeholder="Search pages and commands",
                auto_complete="off",
                spell_check=False,
                aria_label="Search pages and commands",
                custom_attrs={"role": "combobox", "aria-controls": "palette-list", "aria-expanded": "true"},
            ),
            rx.el.kbd("Esc"),
            class_name="search",
        ),
        rx.el.ul(
            *(
                rx.el.li(
                    command,
                    id=f"command-{number}",
                    role="option",
                    custom_attrs={"data-words": words, "aria-selected": "false"},
                )
                for number, (command, words) in enumerate(commands)
            ),
            id="palette-list",
            role="listbox",
        ),
        rx.el.p("Nothing by that name.", id="palette-nothing", class_name="nothing", hidden=True),
        id="palette",
        class_name="palette",
        aria_label="Search or jump to",
    )


def notices(text: rx.Var[str], tone: rx.Var[str], number: rx.Var[int]) -> rx.Component:
    """What the last action said; it leaves by itself. A new `number` shows it again."""
    bad = tone == "bad"
    return rx.el.div(
        rx.cond(
            text != "",
            rx.el.div(
                rx.cond(bad, icon("circle_alert"), icon("circle_check")),
                rx.el.span(text),
                key=number.to_string(),
                class_name=rx.cond(bad, "notice is-bad", "notice"),
            ),
        ),
        role="status",
        custom_attrs={"aria-live": "polite"},
    )


def offline_banner() -> rx.Component:
    """Says that the server does not answer, and that nothing is lost; goes when it does again."""
    return rx.cond(
        has_too_many_connection_errors,
        rx.el.div(
            rx.el.span(class_name="dot"),
            "No connection to the server. Trying again …",
            class_name="offline",
            role="status",
        ),
    )


def failed_page() -> rx.Component:
    """Around every page: what is shown when its script fails."""
    shown = rx.el.div(
        empty(
            "circle_alert",
            "This page could not be shown",
            "Nothing was lost. Reload it; if it happens again, the server's log says why.",
            rx.el.a("Reload", href="", class_name="button is-primary"),
        ),
        class_name="entrance",
    )
    return ErrorBoundary.create(
        fallback_render=ArgsFunctionOperation.create(("failure",), rx.Var.create(shown))
    )


def _action(symbol: str, label: str, name: str, **props: Any) -> rx.Component:
    return rx.el.button(
        icon(symbol), label, type="button", class_name="command", custom_attrs={"data-act": name}, **props
    )
