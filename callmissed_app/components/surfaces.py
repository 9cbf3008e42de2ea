"""What content lies on: cards, figures, tables, messages, code, and their empty and waiting states."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import reflex as rx

from callmissed_app.components.controls import copy_button, icon

Phone = Literal["stacking", "brief", "scrolling"]
"""What a table does on a phone: a card of labelled lines a row, two short lines a row, or scroll sideways."""

Tone = Literal["plain", "good", "warn", "bad", "accent"]

_SYMBOLS = {
    "plain": "info",
    "accent": "info",
    "good": "circle_check",
    "warn": "triangle_alert",
    "bad": "circle_alert",
}


def card(
    *body: Any,
    title: str | None = None,
    action: rx.Component | None = None,
    footer: Any = None,
    bare: bool = False,
    class_name: str = "",
    **props: Any,
) -> rx.Component:
    """A framed part of a page. `bare` leaves the padding out, for a table that reaches the edges."""
    parts: list[Any] = []
    if title is not None:
        parts.append(rx.el.header(rx.el.h2(title), action))
    parts += body if bare else [rx.el.div(*body, class_name="body")]
    if footer is not None:
        parts.append(rx.el.footer(footer))
    return rx.el.section(*parts, class_name=f"card {class_name}".strip(), **props)


def grid(*children: Any, column: str = "220px", **props: Any) -> rx.Component:
    """Equal columns, as many as fit when each is at least `column` wide."""
    return rx.el.div(*children, class_name="grid", custom_attrs={"style": {"--column": column}}, **props)


def stats(*figures: rx.Component, column: str = "160px", **props: Any) -> rx.Component:
    """Figures side by side in one frame with hairlines between them."""
    return rx.el.dl(*figures, class_name="stats", custom_attrs={"style": {"--column": column}}, **props)


def stat(
    label: str,
    value: Any,
    *,
    hint: Any = None,
    ready: rx.Var[bool] | None = None,
) -> rx.Component:
    """One figure with its name, and a skeleton in its place until `ready`."""
    if ready is not None:
        value = rx.cond(ready, value, skeleton("88px", "32px"))
    words = [rx.el.dd(hint, class_name="hint")] if hint is not None else []
    return rx.el.div(rx.el.dt(label), rx.el.dd(value), *words, class_name="stat")


def badge(text: Any, tone: Tone | rx.Var[str] = "plain", **props: Any) -> rx.Component:
    """A short state or kind. A Var `tone` holds one of the tones."""
    name: Any = "badge is-" + tone
    return rx.el.span(text, class_name=name, **props)


def message(*text: Any, tone: Tone = "plain", **props: Any) -> rx.Component:
    """A sentence the person should read here, now."""
    return rx.el.div(
        icon(_SYMBOLS[tone]), rx.el.div(*text), class_name=f"message is-{tone}", role="status", **props
    )


def empty(symbol: str, title: str, text: Any, action: rx.Component | None = None) -> rx.Component:
    """What stands where a list would be: what would be here and how to get it."""
    return rx.el.div(
        rx.el.div(icon(symbol, 18), class_name="picture"),
        rx.el.h2(title),
        rx.el.p(text),
        rx.el.div(action, class_name="action") if action is not None else None,
        class_name="empty",
    )


def skeleton(width: str = "100%", height: str = "14px") -> rx.Component:
    """A grey shape as large as what will come."""
    return rx.el.span(
        class_name="skeleton",
        custom_attrs={"aria-hidden": "true", "style": {"--width": width, "--height": height}},
    )


def table(
    head: Sequence[str | tuple[str, str]], rows: Any, *, label: str, phone: Phone = "stacking"
) -> rx.Component:
    """A table called `label`.

    `head` holds column names, or `(name, "is-number")` for figures; `rows` is `rx.foreach` or a list of
    `row(…)`.
    """
    names = [(name, "") if isinstance(name, str) else name for name in head]
    body = rows if isinstance(rows, list) else [rows]
    return rx.el.div(
        rx.el.table(
            rx.el.thead(
                rx.el.tr(*(rx.el.th(name, scope="col", class_name=kind) for name, kind in names)),
            ),
            rx.el.tbody(*body),
            aria_label=label,
            class_name=f"table is-{phone}",
        ),
        class_name="table-frame",
    )


def row(*cells: rx.Component, opens: Any = None, **props: Any) -> rx.Component:
    """A table's row of `cell`s. With `opens` (an event) a click anywhere on it opens its drawer; put a
    button with the same event in the first cell for the keyboard.
    """
    if opens is not None:
        props |= {"on_click": opens, "class_name": "is-link"}
    return rx.el.tr(*cells, **props)


def cell(
    *content: Any,
    label: str = "",
    number: bool = False,
    title: bool = False,
    lead: bool = False,
    **props: Any,
) -> rx.Component:
    """A row's cell; `number` aligns to the right.

    On a phone `label` names it, `title` is the row's heading, and in a `brief` table `lead` stands beside it.
    """
    kinds = (("is-number", number), ("is-title", title), ("is-lead", lead))
    names = " ".join(name for name, given in kinds if given)
    attributes = {"data-label": label} if label else {}
    return rx.el.td(*content, class_name=names, custom_attrs=attributes, **props)


def waiting_rows(columns: int, rows: int = 4) -> list[rx.Component]:
    """Rows of skeletons for a table that is still loading."""
    return [
        row(*(cell(skeleton("70%")) for _ in range(columns)), key=f"waiting-{line}") for line in range(rows)
    ]


def facts(*pairs: tuple[str, Any]) -> rx.Component:
    """Names and values under each other."""
    drawn = [part for name, value in pairs for part in (rx.el.dt(name), rx.el.dd(value))]
    return rx.el.dl(*drawn, class_name="facts")


def code_block(text: str | rx.Var[str], *, name: str, label: str = "Copy the code") -> rx.Component:
    """Code as it is to be typed, with a copy button. `name` is unique on the page."""
    return rx.el.div(
        rx.el.pre(rx.el.code(text, id=name), tab_index=0),
        copy_button(source=f"#{name}", label=label),
        class_name="code",
    )


def secret(text: rx.Var[str], *, name: str) -> rx.Component:
    """A value that is shown once, selected with one click."""
    return rx.el.div(
        rx.el.code(text, id=name),
        copy_button(source=f"#{name}", label="Copy the secret"),
        class_name="secret",
    )


def each(items: rx.Var, draw: Callable[..., rx.Component], otherwise: rx.Component) -> rx.Component:
    """Every item drawn, or `otherwise` when there is none."""
    return rx.cond(items.length() > 0, rx.foreach(items, draw), otherwise)  # type: ignore[attr-defined]
