"""The guard of every handler. A public handler of a state is a remote procedure that anybody can call.

- Every handler is made with `@handler` (or, for the few that need nobody, `@handler(public=True)`); the
  middleware in `states/guard.py` refuses all others.
- The caller is looked up for each event by the hash of the session cookie, which is all that the dashboard
  ever sees of it: the socket may live longer than the session.
- A refusal becomes a sentence on the screen; anything unforeseen becomes a general one there and a trace in
  the log.
"""

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial, wraps
from typing import Any
from urllib.parse import quote

import reflex as rx
from reflex.istate.proxy import StateProxy

from api.errors import ApiError
from api.tenants.signed_in import SessionCaller, caller_of_cookie
from callmissed_app.services import services, session_hash

log = logging.getLogger(__name__)

FAILED = "Something went wrong here. Try again; if it happens again, the server's log says why."


class Base(rx.State):
    """What all states share: the message on the screen, and whose state this is."""

    notice: str = ""
    notice_tone: str = "good"
    notice_number: int = 0
    """Grows with every notice, so that the same words can be shown twice."""

    _owner: str = ""
    """Hash of the cookie of the session that the whole tree's values belong to; "" is nobody."""

    def _say(self, text: str, tone: str = "good") -> None:
        """Show a sentence for some seconds; `tone` is `good` or `bad`."""
        self.notice, self.notice_tone = text, tone
        self.notice_number += 1

    async def _caller(self) -> SessionCaller | None:
        """The person behind this event, looked up now; None when nobody is signed in."""
        cookie = cookie_hash(self)
        return await caller_of_cookie(services().database, cookie) if cookie else None

    def _sign_in_first(self) -> rx.event.EventSpec:
        return rx.redirect(f"/sign-in?next={quote(str(self.router.url.path) or '/')}")


def cookie_hash(state: rx.State) -> str:
    """The hash of the session cookie this socket was opened with; "" when there was none."""
    return session_hash(state.router.headers.cookie)


def handler(
    function: Callable[..., Any] | None = None, *, public: bool = False, background: bool = False
) -> Any:
    """Make a method of a state callable from the page.

    Guarded, its second argument is the caller: `async def load(self, caller)`; who is not signed in is sent
    to the sign-in page and the method does not run. `public=True` leaves that argument out. Async methods
    and async generators only: anything else would hold up every other person.
    """
    if function is None:
        return partial(handler, public=public, background=background)
    if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        raise TypeError(f"{function.__qualname__} must be async.")
    guarded = (
        _generator(function, public) if inspect.isasyncgenfunction(function) else _plain(function, public)
    )
    signature = inspect.signature(function)
    parameters = [value for name, value in signature.parameters.items() if public or name != "caller"]
    guarded.__signature__ = signature.replace(parameters=parameters)
    guarded.__annotations__ = {
        name: value for name, value in function.__annotations__.items() if name != "caller"
    }
    guarded.guard = "public" if public else "session"
    return rx.event(guarded, background=background) if background else guarded


def _plain(function: Callable[..., Awaitable[Any]], public: bool) -> Callable[..., Any]:
    @wraps(function)
    async def guarded(self: Base, /, **payload: Any) -> Any:
        try:
            if public:
                return await function(self, **payload) if _fits(function, self, payload) else None
            caller = await self._caller()
            return await function(self, caller, **payload) if caller else self._sign_in_first()
        except Exception as error:
            await _tell(self, error)

    return guarded


def _generator(function: Callable[..., AsyncIterator[Any]], public: bool) -> Callable[..., Any]:
    @wraps(function)
    async def guarded(self: Base, /, **payload: Any) -> AsyncIterator[Any]:
        try:
            caller = None if public else await self._caller()
            if caller is None and not public:
                yield self._sign_in_first()
                return
            async for event in function(self, **payload) if public else function(self, caller, **payload):
                yield event
        except Exception as error:
            await _tell(self, error)

    return guarded


def _fits(function: Callable[..., Any], state: Base, payload: dict[str, Any]) -> bool:
    """Whether a stranger's event has the handler's arguments; one that has not is not worth a line of log."""
    try:
        inspect.signature(function).bind(state, **payload)
    except TypeError:
        return False
    return True


async def _tell(state: Base, error: Exception) -> None:
    """Show a refusal as it is, and anything else as one general sentence; that one is logged."""
    if not isinstance(error, ApiError):
        log.exception("A handler of %s failed.", type(state).__name__, exc_info=error)
    text = error.message if isinstance(error, ApiError) else FAILED
    if isinstance(state, StateProxy):  # a background handler: it holds no lock here
        async with state:
            state._say(text, "bad")
    else:
        state._say(text, "bad")
