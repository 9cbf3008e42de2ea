"""Markdown that a model wrote, drawn as our own elements.

Safe for any text: HTML in it is shown as text, links lead to web and mail only, no image is fetched.
"""

from collections.abc import Callable
from typing import Any

import reflex as rx

from callmissed_app.components.controls import copy_button


def markdown(text: rx.Var[str], **props: Any) -> rx.Component:
    """`text` with headings, lists, tables, code to copy, and links that open beside the console."""
    return rx.el.div(
        rx.markdown(
            text,
            use_raw=False,
            use_math=False,
            use_katex=False,
            use_unwrap_images=False,
            component_map=_elements(),
        ),
        class_name="markdown",
        **props,
    )


def _elements() -> dict[str, Callable[..., rx.Component]]:
    # Headings of an answer are below those of the page.
    headings = dict.fromkeys(("h1", "h2"), lambda text: rx.el.h3(text)) | dict.fromkeys(
        ("h3", "h4", "h5", "h6"), lambda text: rx.el.h4(text)
    )
    return {
        **headings,
        "p": lambda text: rx.el.p(text),
        "ul": lambda text: rx.el.ul(text),
        "ol": lambda text: rx.el.ol(text),
        "li": lambda text: rx.el.li(text),
        "a": lambda text: rx.el.a(
            text, class_name="link", target="_blank", rel="noopener noreferrer nofollow"
        ),
        "code": lambda text: rx.el.code(text),
        "pre": _code,
        "img": lambda _: rx.el.em("(an image)"),
    }


def _code(text: rx.Var[str], language: rx.Var[str] | str = "") -> rx.Component:
    return rx.el.div(
        rx.el.pre(rx.el.code(text), tab_index=0),
        rx.el.span(language, class_name="language"),
        copy_button(text, label="Copy the code"),
        class_name="code",
    )
