"""The Reflex app: its pages, put together."""

import reflex as rx


def index() -> rx.Component:
    """The front page."""
    return rx.container(
        rx.heading("CallMissed"),
        rx.text("One OpenAI-compatible gateway in front of many AI providers."),
    )


app = rx.App()
app.add_page(index, route="/", title="CallMissed")
