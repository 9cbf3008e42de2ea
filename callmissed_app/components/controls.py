"""What a person presses, types into and picks from."""

from collections.abc import Sequence
from typing import Any, Literal

import reflex as rx
from reflex_components_core.react_router.dom import ReactRouterLink

Kind = Literal["plain", "primary", "ghost", "danger"]


def icon(name: str, size: int = 16, **props: Any) -> rx.Component:
    """A Lucide icon by its name (`key_round`), decorative: screen readers skip it."""
    return rx.icon(name, size=size, stroke_width=1.75, custom_attrs={"aria-hidden": "true"}, **props)


def button(
    label: str | rx.Var[str],
    *,
    symbol: str | None = None,
    kind: Kind = "plain",
    small: bool = False,
    busy: rx.Var[bool] | None = None,
    class_name: str = "",
    **props: Any,
) -> rx.Component:
    """A button with words and, before them, an icon. While `busy` it spins and takes no clicks."""
    if busy is not None:
        props["aria_busy"] = rx.cond(busy, "true", "false")
    return rx.el.button(
        icon(symbol) if symbol else None,
        label,
        type=props.pop("type", "button"),
        class_name=_button_classes(kind, small, class_name),
        **props,
    )


def link_button(
    label: str | rx.Var[str],
    href: str | rx.Var[str],
    *,
    symbol: str | None = None,
    kind: Kind = "plain",
    small: bool = False,
    class_name: str = "",
    **props: Any,
) -> rx.Component:
    """A link that looks like a button; inside the console it changes pages without a reload."""
    return link(
        icon(symbol) if symbol else None,
        label,
        href=href,
        class_name=_button_classes(kind, small, class_name),
        **props,
    )


def icon_button(
    symbol: str, label: str, *, kind: Kind = "ghost", small: bool = False, class_name: str = "", **props: Any
) -> rx.Component:
    """A square button with an icon only; `label` is what it is called, also as a tooltip."""
    return rx.el.button(
        icon(symbol),
        type="button",
        title=label,
        aria_label=label,
        class_name=_button_classes(kind, small, f"is-square {class_name}".strip()),
        **props,
    )


def copy_button(
    text: str | rx.Var[str] | None = None, *, source: str | None = None, label: str = "Copy", **props: Any
) -> rx.Component:
    """Copies `text`, or the text of the element that the selector `source` finds, and says that it did."""
    what = {"data-copy": text} if text is not None else {"data-copy-from": source}
    return rx.el.button(
        icon("copy", 14, class_name="is-idle"),
        icon("check", 14, class_name="is-done"),
        type="button",
        title=label,
        aria_label=label,
        class_name="button is-ghost is-square is-small copy",
        custom_attrs=what,
        **props,
    )


def link(*children: Any, href: str | rx.Var[str], **props: Any) -> rx.Component:
    """A link to a page of the console (no reload), or to anything else (`/v1/…`, `#…`: the browser's own)."""
    inside = not isinstance(href, str) or (href.startswith("/") and not href.startswith(("/v1", "/api/")))
    if inside:
        return ReactRouterLink.create(*children, to=href, **props)
    return rx.el.a(*children, href=href, **props)


def field(
    label: str,
    control: rx.Component,
    *,
    name: str,
    hint: str | rx.Var[str] | None = None,
    error: rx.Var[str] | None = None,
) -> rx.Component:
    """A labelled control. `name` is the control's id; the hint and the error are read out with it."""
    return rx.el.div(
        rx.el.label(label, html_for=name),
        control,
        rx.el.span(hint, id=f"{name}-hint", class_name="hint") if hint is not None else None,
        rx.el.span(error if error is not None else "", id=f"{name}-error", class_name="error", role="alert"),
        class_name="field",
    )


def text_input(name: str, *, kind: str = "text", class_name: str = "", **props: Any) -> rx.Component:
    """A one-line input whose id and name are `name`."""
    described = {"aria-describedby": f"{name}-hint {name}-error", **props.pop("custom_attrs", {})}
    return rx.el.input(
        id=name,
        name=name,
        type=kind,
        class_name=f"input {class_name}".strip(),
        custom_attrs=described,
        **props,
    )


def text_area(name: str, *, class_name: str = "", **props: Any) -> rx.Component:
    """Several lines of text; id and name are `name`."""
    return rx.el.textarea(id=name, name=name, class_name=f"input {class_name}".strip(), **props)


def select(
    name: str, options: Sequence[tuple[str, str]] | rx.Var, *, class_name: str = "", **props: Any
) -> rx.Component:
    """The browser's own picker. `options` are `(value, label)` pairs, or a Var with a list of such pairs."""
    if isinstance(options, rx.Var):
        drawn = [rx.foreach(options, lambda option: rx.el.option(option[1], value=option[0]))]
    else:
        drawn = [rx.el.option(label, value=value) for value, label in options]
    return rx.el.select(*drawn, id=name, name=name, class_name=f"input {class_name}".strip(), **props)


def check(label: Any, *, name: str, **props: Any) -> rx.Component:
    """A check box with its words."""
    return rx.el.label(
        rx.el.input(type="checkbox", id=name, name=name, **props), rx.el.span(label), class_name="check"
    )


def switch(label: str, *, name: str, **props: Any) -> rx.Component:
    """An on/off switch called `label` (not shown: put words beside it)."""
    return rx.el.input(
        type="checkbox", id=name, name=name, role="switch", aria_label=label, class_name="switch", **props
    )


def segments(
    options: Sequence[tuple[str, str]], chosen: rx.Var[str], on_choose: Any, *, label: str
) -> rx.Component:
    """Two to five choices side by side; `on_choose(value)` is called with the one that was pressed."""
    return rx.el.div(
        *(
            rx.el.button(
                words,
                type="button",
                aria_pressed=rx.cond(chosen == value, "true", "false"),
                on_click=on_choose(value),
            )
            for value, words in options
        ),
        role="group",
        aria_label=label,
        class_name="segments",
    )


def _button_classes(kind: Kind, small: bool, more: str) -> str:
    names = ["button", "" if kind == "plain" else f"is-{kind}", "is-small" if small else "", more]
    return " ".join(name for name in names if name)
