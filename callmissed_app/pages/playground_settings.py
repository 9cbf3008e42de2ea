"""The settings beside the playground's conversation; on a small screen they slide in."""

import reflex as rx

from callmissed_app.components.controls import field, text_area, text_input
from callmissed_app.states.models import Missing
from callmissed_app.states.playground import LONGEST_PROMPT, PlaygroundState


def settings() -> rx.Component:
    """System prompt, temperature, max tokens; below them, what would bring more models."""
    # The fields keep what is typed themselves; a new key lets them take what the server remembers.
    state, fresh = PlaygroundState, rx.cond(PlaygroundState.loaded, "known", "unknown")
    return rx.el.aside(
        rx.el.h2("Settings"),
        field(
            "System prompt",
            text_area(
                "system",
                default_value=state.system,
                on_blur=state.keep_system,
                placeholder="You are a helpful assistant.",
                rows="5",
                max_length=LONGEST_PROMPT,
                key="system-" + fresh,
            ),
            name="system",
        ),
        field(
            "Temperature",
            text_input(
                "temperature",
                default_value=state.temperature,
                on_blur=state.keep_temperature,
                placeholder="Model's default",
                input_mode="decimal",
                custom_attrs={"aria-invalid": rx.cond(state.temperature_error != "", "true", "false")},
                key="temperature-" + fresh,
            ),
            name="temperature",
            hint="0 is steady, 2 is wild.",
            error=state.temperature_error,
        ),
        field(
            "Max tokens",
            text_input(
                "most",
                default_value=state.max_tokens,
                on_blur=state.keep_max_tokens,
                placeholder="Model's default",
                input_mode="numeric",
                custom_attrs={"aria-invalid": rx.cond(state.max_tokens_error != "", "true", "false")},
                key="most-" + fresh,
            ),
            name="most",
            error=state.max_tokens_error,
        ),
        rx.cond(state.missing.length() > 0, _missing()),
        id="options",
        class_name="options",
        custom_attrs={"popover": "auto", "aria-label": "Settings of the conversation"},
    )


def _missing() -> rx.Component:
    return rx.el.details(
        rx.el.summary(PlaygroundState.more),
        rx.el.p("In the server's environment; then start it again."),
        rx.el.ul(rx.foreach(PlaygroundState.missing, _setting)),
        class_name="more",
    )


def _setting(group: rx.Var[Missing]) -> rx.Component:
    return rx.el.li(
        rx.cond(group.setting != "", rx.el.code(group.setting), rx.el.span(group.how)),
        rx.el.span(group.number, class_name="faint number"),
        title=group.names,
    )
