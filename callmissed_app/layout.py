"""The frame around every page, and the decorator that puts a page into it. The only way to make a page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import reflex as rx

from callmissed_app.components.controls import button, icon, icon_button, link
from callmissed_app.components.frame import notices, offline_banner, palette
from callmissed_app.components.overlays import menu, menu_button, menu_item
from callmissed_app.states.base import Base
from callmissed_app.states.shell import ShellState
from callmissed_app.theme import mark

Width = Literal["page", "wide", "full"]


@dataclass(frozen=True)
class Place:
    """An entry of the rail. `words` are what else a person might type for it in the palette."""

    route: str
    title: str
    symbol: str
    words: str = ""


# Groups of the rail, in the order of the console's map; only what exists today.
PLACES: tuple[tuple[Place, ...], ...] = (
    (
        Place("/", "Overview", "layout_dashboard", "home balance spend"),
        Place("/playground", "Playground", "message_square", "chat try model"),
        Place("/models", "Models", "boxes", "catalog prices providers"),
    ),
    (
        Place("/keys", "API keys", "key_round", "secret token create"),
        Place("/usage", "Usage", "chart_column", "logs cost requests receipts"),
    ),
    (Place("/settings", "Settings", "settings", "profile organization vendors sessions server"),),
)


def page(
    *,
    route: str,
    title: str,
    lead: str = "",
    guard: bool = True,
    on_load: Any = None,
    action: Callable[[], rx.Component] | None = None,
    width: Width = "page",
) -> Callable[[Callable[[], Any]], Callable[[], rx.Component]]:
    """Make the function's content a page at `route`.

    Guarded pages get the frame, a heading (`title`, `lead`, the one primary `action`) and are loaded for
    the person who is signed in: first the frame, then `on_load` (an event or a list). Unguarded ones stand
    alone. `width="full"` leaves the heading out and gives the content the whole window below the bar.
    """
    events = list(on_load) if isinstance(on_load, list | tuple) else [on_load] if on_load else []

    def decorate(draw: Callable[[], Any]) -> Callable[[], rx.Component]:
        def drawn() -> rx.Component:
            if not guard:
                return rx.fragment(draw(), *_over())
            heading = _heading(title, lead, action) if width != "full" else None
            return _frame(route, title, heading, draw(), width)

        drawn.__name__ = draw.__name__
        drawn.__module__ = draw.__module__
        loads = [ShellState.load, *events] if guard else events
        rx.page(route=route, title=f"{title} · CallMissed", on_load=loads or None)(drawn)
        return drawn

    return decorate


def _frame(route: str, title: str, heading: rx.Component | None, content: Any, width: Width) -> rx.Component:
    kind = "content" if width == "page" else f"content is-{width}"
    return rx.el.div(
        rx.el.a("Skip to content", href="#content", class_name="skip"),
        _rail(route),
        rx.el.div(
            _bar(title),
            rx.el.main(heading, content, id="content", class_name=kind, tab_index=-1),
            class_name="main",
        ),
        palette([place for group in PLACES for place in group]),
        *_over(),
        class_name="shell",
    )


def _over() -> list[rx.Component]:
    return [notices(Base.notice, Base.notice_tone, Base.notice_number), offline_banner()]


def _heading(title: str, lead: str, action: Callable[[], rx.Component] | None) -> rx.Component:
    return rx.el.div(
        rx.el.div(rx.el.h1(title), rx.el.p(lead) if lead else None, class_name="words"),
        rx.el.div(action(), class_name="action") if action else None,
        class_name="heading",
    )


def _rail(route: str) -> rx.Component:
    def entry(place: Place) -> rx.Component:
        here = {"aria-current": "page"} if place.route == route else {}
        return rx.el.li(
            link(icon(place.symbol), place.title, href=place.route, class_name="place", custom_attrs=here)
        )

    return rx.el.nav(
        link(mark(), "CallMissed", href="/", class_name="brand", aria_label="CallMissed, overview"),
        *(rx.el.ul(*(entry(place) for place in group)) for group in PLACES),
        link(
            rx.el.span(icon("building_2", 14), class_name="initials is-square"),
            rx.el.span(
                rx.el.span(ShellState.organization, class_name="truncate dense strong"),
                rx.el.span(ShellState.plan, class_name="truncate small faint"),
                class_name="lines",
            ),
            href="/settings",
            class_name="organization",
        ),
        id="rail",
        class_name="rail",
        custom_attrs={"popover": "auto", "aria-label": "Console"},
    )


def _bar(title: str) -> rx.Component:
    me = rx.el.button(
        rx.el.span(ShellState.initials, class_name="initials"),
        type="button",
        class_name="button is-ghost is-square",
        aria_label="You",
    )
    return rx.el.header(
        menu_button(icon_button("menu", "Menu", class_name="for-phones"), "rail"),
        rx.el.div(
            rx.el.span(ShellState.organization, class_name="truncate soft for-desks"),
            rx.el.span("/", class_name="slash for-desks", aria_hidden="true"),
            rx.el.span(title, class_name="truncate strong"),
            class_name="where",
        ),
        button(
            rx.fragment("Search or jump to", rx.el.kbd(class_name="shortcut", aria_hidden="true")),
            symbol="search",
            class_name="find for-desks",
            custom_attrs={"data-open-palette": ""},
        ),
        icon_button(
            "search", "Search or jump to", class_name="for-phones", custom_attrs={"data-open-palette": ""}
        ),
        link(
            icon("wallet", 15, class_name="for-desks"),
            ShellState.balance,
            href="/",
            class_name="pill",
            title="Available balance",
        ),
        theme_toggle(class_name="for-desks"),
        menu_button(me, "me-menu"),
        _me_menu(),
        class_name="bar",
    )


def theme_toggle(class_name: str = "", **props: Any) -> rx.Component:
    """Switches between light and dark; the browser remembers it."""
    symbol = rx.color_mode_cond(icon("moon"), icon("sun"))
    return rx.el.button(
        symbol,
        type="button",
        id="theme-toggle",
        title="Light or dark",
        aria_label="Light or dark",
        class_name=f"button is-ghost is-square {class_name}".strip(),
        on_click=rx.toggle_color_mode,
        **props,
    )


def _me_menu() -> rx.Component:
    return menu(
        rx.el.div(
            rx.el.div(ShellState.name, class_name="truncate strong dense"),
            rx.el.div(ShellState.email, class_name="truncate small faint"),
            class_name="about",
        ),
        rx.el.hr(),
        menu_item("settings", "Settings", href="/settings"),
        menu_item("contrast", "Light or dark", custom_attrs={"data-act": "theme"}),
        menu_item("log_out", "Sign out", custom_attrs={"data-sign-out": ""}),
        name="me-menu",
    )
