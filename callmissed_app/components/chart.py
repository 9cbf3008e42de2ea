"""A chart of bars: plain elements as high as the state says, so that it needs no library and no script."""

import reflex as rx


def bars(points: rx.Var[list[dict[str, str]]], *, top: rx.Var[str], label: rx.Var[str]) -> rx.Component:
    """One bar a point, on one scale from nothing to `top`.

    A point has `share` (its height, `43%`), `tip` (shown when it is pointed at) and `mark` (below the axis,
    often ""). `label` says in a sentence what is to be seen.
    """
    return rx.el.figure(
        rx.el.div(rx.el.span(top), class_name="scale", aria_hidden="true"),
        rx.el.div(
            rx.foreach(points, _bar),
            class_name="columns",
            role="img",
            aria_label=label,
        ),
        class_name="bars",
    )


def _bar(point: rx.Var[dict[str, str]]) -> rx.Component:
    return rx.el.div(
        rx.el.span(class_name="amount", custom_attrs={"style": {"--share": point["share"]}}),
        rx.el.span(point["mark"], class_name="mark"),
        class_name="column",
        custom_attrs={"data-tip": point["tip"]},
    )
