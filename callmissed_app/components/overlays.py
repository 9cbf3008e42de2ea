"""What lies over the page: the browser's own dialogs and popovers, with their focus, Escape and layer."""

from typing import Any

import reflex as rx

from callmissed_app.components.controls import icon, icon_button, link


def dialog(
    title: str | rx.Var[str],
    *body: Any,
    open: rx.Var[bool],
    on_close: Any,
    footer: Any = None,
    large: bool = False,
    name: str,
) -> rx.Component:
    """A dialog that is open while `open` is true. Escape, the cross and a click outside call `on_close`,
    which must make it false. `footer` holds its buttons, the primary one last; `name` is unique on the
    page.
    """
    return _layer("dialog is-large" if large else "dialog", title, body, open, on_close, footer, name)


def drawer(
    title: str | rx.Var[str],
    *body: Any,
    open: rx.Var[bool],
    on_close: Any,
    footer: Any = None,
    name: str,
) -> rx.Component:
    """As `dialog`, along the right edge and as high as the window: for the details of a row."""
    return _layer("drawer", title, body, open, on_close, footer, name)


def menu_button(trigger: rx.Component, target: str) -> rx.Component:
    """`trigger` (a button) made to open and close the `menu` with the id `target`."""
    trigger.custom_attrs = {**trigger.custom_attrs, "popoverTarget": target, "aria-haspopup": "menu"}
    return trigger


def menu(*items: Any, name: str) -> rx.Component:
    """A small list of actions, closed by a click elsewhere or Escape. Where it opens is said in the page's
    sheet.
    """
    return rx.el.div(*items, id=name, class_name="menu", custom_attrs={"popover": "auto"})


def menu_item(
    symbol: str, label: str, *, danger: bool = False, href: str | None = None, **props: Any
) -> rx.Component:
    """One line of a menu: a link when `href` is given, else a button."""
    name = "item is-danger" if danger else "item"
    if href is not None:
        return link(icon(symbol), label, href=href, class_name=name, **props)
    return rx.el.button(icon(symbol), label, type="button", class_name=name, **props)


def _layer(
    kind: str, title: Any, body: tuple[Any, ...], open: rx.Var[bool], on_close: Any, footer: Any, name: str
) -> rx.Component:
    return rx.el.dialog(
        rx.el.header(
            rx.el.h2(title, id=f"{name}-title"),
            icon_button("x", "Close", small=True, on_click=on_close, custom_attrs={"data-dismiss": ""}),
        ),
        rx.el.div(*body, class_name="body"),
        rx.el.footer(footer) if footer is not None else None,
        id=name,
        class_name=kind,
        custom_attrs={"data-shown": rx.cond(open, "true", "false"), "aria-labelledby": f"{name}-title"},
    )
