"""The playground: a conversation with any model, and what each answer cost."""

import reflex as rx

from callmissed_app.components.controls import button, icon_button, link_button, segments
from callmissed_app.components.overlays import dialog, menu_button
from callmissed_app.components.surfaces import badge, code_block, empty
from callmissed_app.components.talk import coming, past
from callmissed_app.layout import page
from callmissed_app.pages.playground_settings import settings
from callmissed_app.states.conversation import ConversationState
from callmissed_app.states.models import Offer
from callmissed_app.states.playground import LONGEST_PROMPT, PlaygroundState
from callmissed_app.states.snippets import LANGUAGES

_SUGGESTIONS = (
    "Explain UPI to somebody who has never used it.",
    "Write a Python function that checks a GSTIN.",
    "Five names for a chai stall, with a reason each.",
)


@page(route="/playground", title="Playground", width="full", on_load=PlaygroundState.load)
def playground() -> rx.Component:
    """The conversation, its composer, and the settings beside it."""
    return rx.cond(
        PlaygroundState.allowed,
        rx.el.div(
            rx.el.section(_strip(), _conversation(), _composer(), class_name="talk"),
            settings(),
            _code(),
            rx.el.script(src="/playground.js", custom_attrs={"async": True}),
            class_name="playground",
        ),
        empty(
            "message_square_off",
            "The playground is for owners and admins",
            "It spends the organization's credits. Ask an owner or admin if you need it.",
        ),
    )


def _strip() -> rx.Component:
    chosen = PlaygroundState.chosen
    return rx.el.div(
        rx.el.select(
            rx.foreach(PlaygroundState.offers, _option),
            value=chosen.id,
            on_change=PlaygroundState.choose,
            aria_label="Model",
            class_name="input picker",
        ),
        rx.cond(
            chosen.id != "",
            rx.el.div(
                rx.cond(chosen.demo, badge("Demo", "accent")),
                rx.el.span(
                    rx.el.b(chosen.price_in), " in, ", rx.el.b(chosen.price_out), " out a million tokens"
                ),
                rx.el.span(chosen.context, " context"),
                class_name="about number",
            ),
        ),
        rx.el.div(
            button("Code", symbol="code", kind="ghost", on_click=ConversationState.show_code("curl")),
            button(
                "Clear",
                symbol="eraser",
                kind="ghost",
                on_click=ConversationState.clear,
                disabled=(ConversationState.exchanges.length() == 0) & ~ConversationState.streaming,
            ),
            menu_button(icon_button("sliders_horizontal", "Settings", class_name="opener"), "options"),
            class_name="acts",
        ),
        class_name="strip",
    )


def _option(offer: rx.Var[Offer]) -> rx.Component:
    return rx.el.option(offer.name, value=offer.id)


def _conversation() -> rx.Component:
    state = ConversationState
    return rx.el.div(
        rx.cond(
            state.streaming | (state.exchanges.length() > 0),
            rx.el.div(
                rx.foreach(
                    state.exchanges,
                    lambda exchange, place: past(
                        exchange,
                        is_last=place == state.exchanges.length() - 1,
                        busy=state.streaming,
                        on_retry=state.retry,
                    ),
                ),
                rx.cond(
                    state.streaming,
                    coming(
                        asked=state.asked, model=state.answering, thinking=state.thinking, text=state.current
                    ),
                ),
                class_name="exchanges",
            ),
            rx.cond(PlaygroundState.loaded, _nothing_yet()),
        ),
        id="conversation",
        class_name="conversation",
        role="log",
        tab_index=0,
        aria_label="Conversation",
    )


def _nothing_yet() -> rx.Component:
    ready = empty(
        "message_square",
        "Ask " + PlaygroundState.chosen.name + " something",
        "Your question takes the way of every call to /v1: same models, same prices, same receipts.",
        rx.el.div(
            *(
                button(text, small=True, on_click=ConversationState.send({"message": text}))
                for text in _SUGGESTIONS
            ),
            class_name="suggestions",
        ),
    )
    nobody = empty(
        "plug_zap",
        "No model answers yet",
        "Set a vendor's key in the server's environment and start it again.",
        link_button("What could be set", "/models"),
    )
    return rx.cond(PlaygroundState.chosen.id != "", ready, nobody)


def _composer() -> rx.Component:
    state = ConversationState
    stop = button(
        "Stop",
        symbol="square",
        id="stop",
        on_click=state.stop,
        busy=state.stopping,
        custom_attrs={"aria-keyshortcuts": "Escape"},
    )
    return rx.el.form(
        rx.el.textarea(
            name="message",
            id="message",
            rows="1",
            placeholder="Your message",
            aria_label="Your message",
            required=True,
            max_length=LONGEST_PROMPT,
            auto_focus=True,
            custom_attrs={"data-composer": ""},
            key=state.sent,
        ),
        rx.el.div(
            rx.el.span(
                rx.cond(state.streaming, rx.el.kbd("Esc"), rx.el.kbd(class_name="send-key")),
                rx.cond(state.streaming, "stops", "sends"),
                class_name="keys",
            ),
            rx.el.span(state.total, class_name="total number"),
            rx.cond(
                state.streaming,
                stop,
                button(
                    "Send",
                    symbol="arrow_up",
                    kind="primary",
                    type="submit",
                    disabled=PlaygroundState.chosen.id == "",
                ),
            ),
            class_name="under",
        ),
        on_submit=state.send,
        class_name="composer",
    )


def _code() -> rx.Component:
    state = ConversationState
    return dialog(
        "This call as code",
        segments(LANGUAGES, state.code_language, state.show_code, label="Language"),
        code_block(state.code, name="call-as-code"),
        rx.el.p("Put a key of yours in the place of cm_live_YOUR_KEY.", class_name="small soft"),
        open=state.code_open,
        on_close=state.hide_code,
        footer=link_button("Create an API key", "/keys?new=1", symbol="key_round"),
        large=True,
        name="code-dialog",
    )
