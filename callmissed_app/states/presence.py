"""Whether somebody is still there."""

import reflex as rx
from reflex_base.registry import RegistrationContext


async def is_watched(state: rx.State) -> bool:
    """Whether a browser is connected to the tab whose values these are; to any process, with Redis."""
    sockets = RegistrationContext.get().app.event_namespace
    return sockets is not None and await sockets._token_manager.is_token_connected(
        state.router.session.client_token
    )
