"""How the console looks: the sheets, scripts and tags of every page. The rules are in `assets/styles/`."""

from pathlib import Path

import reflex as rx

_STYLES = Path(__file__).parent.parent / "assets" / "styles"

# In this order, because later sheets win; a page's own sheet follows by name.
_FIRST = ("tokens", "base", "controls", "surfaces", "overlays", "shell")


def stylesheets() -> list[str]:
    """The sheets' addresses below `assets/`: the shared ones, then every page's."""
    pages = sorted(path.stem for path in _STYLES.glob("*.css") if path.stem not in _FIRST)
    return [f"/styles/{name}.css" for name in (*_FIRST, *pages)]


def head() -> list[rx.Component]:
    """Tags for every page's head. Scripts are files of ours: the policy allows none inside a page."""
    return [
        # Before anything is painted: the colour scheme that was chosen last.
        rx.el.script(src="/theme.js"),
        rx.el.script(src="/console.js", defer=True),
        rx.el.script(src="/session.js", defer=True),
        rx.el.meta(name="theme-color", content="#fafafb", media="(prefers-color-scheme: light)"),
        rx.el.meta(name="theme-color", content="#0b0b0d", media="(prefers-color-scheme: dark)"),
        rx.el.meta(name="robots", content="noindex"),
    ]


def mark(size: int = 22) -> rx.Component:
    """The product's sign, as in `assets/favicon.svg`."""
    return rx.el.svg(
        rx.el.rect(width="32", height="32", rx="8", fill="var(--accent)"),
        rx.el.path(
            d="M20.6 10.6a7.4 7.4 0 1 0 0 10.8",
            fill="none",
            stroke="#fff",
            stroke_width="3.4",
            stroke_linecap="round",
        ),
        rx.el.circle(cx="24", cy="16", r="2.4", fill="#fff"),
        width=str(size),
        height=str(size),
        view_box="0 0 32 32",
        custom_attrs={"aria-hidden": "true"},
    )
