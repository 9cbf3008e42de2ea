"""The second net, under `@handler`: runs before every event of every socket, Reflex's own included.

State lives as long as the browser's tab and is found by a token the tab invented; sessions come and go. So
each tree of values is bound to the session it was filled for, and emptied before it is sent to any other.
"""

import reflex as rx
from reflex.state import FrontendEventExceptionState, OnLoadInternalState, State, StateUpdate
from reflex_base.event import Event
from reflex_base.registry import RegistrationContext
from reflex_base.utils.format import format_event_handler

from api.tenants.signed_in import caller_of_cookie
from callmissed_app.services import services
from callmissed_app.states.base import Base, cookie_hash


def _names(state: type[rx.State], *handlers: str) -> set[str]:
    return {format_event_handler(state.event_handlers[name]) for name in handlers}


_SEND_EVERYTHING = _names(State, "hydrate", "hydrate_and_load")
_FRAMEWORK = _names(OnLoadInternalState, "on_load_internal", "set_is_hydrated")
_REPORT = _names(FrontendEventExceptionState, "handle_frontend_exception")


class Guard(rx.Middleware):
    """Refuses every event but our guarded handlers and the few that the framework needs."""

    async def preprocess(self, app: rx.App, state: State, event: Event) -> StateUpdate | None:
        """None lets the event run; an update is sent instead of running it."""
        base = await state.get_state(Base)
        cookie = cookie_hash(base)
        if event.name in _SEND_EVERYTHING:
            await _bind(base, cookie)
            base.notice = ""  # said before this page was opened
            return None
        if event.name in _FRAMEWORK:
            return None
        if event.name in _REPORT:
            return None if base._owner else StateUpdate()
        registered = RegistrationContext.get().event_handlers[event.name]
        ours = hasattr(registered.handler.fn, "guard") and base._owner in ("", cookie)
        return None if ours else StateUpdate()


async def _bind(base: Base, cookie: str) -> None:
    caller = await caller_of_cookie(services().database, cookie) if cookie else None
    owner = cookie if caller else ""
    if base._owner != owner:
        base._get_root_state().reset()
        base._owner = owner
