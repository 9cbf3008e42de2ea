"""A conversation with a model, over the same `/v1` and the same books as every other call.

An answer comes in the background and is shown at most twenty times a second. `_run` names the one that may
write here: clearing, or signing in as somebody else, changes it, and an older answer ends without a trace.
A tab that was closed ends its answer too: nobody pays for what nobody reads.
"""

import asyncio
import time
from typing import Any
from uuid import uuid4

import reflex as rx

from api.tenants.session_keys import session_key
from callmissed_app.services import services
from callmissed_app.states.base import Base, handler
from callmissed_app.states.chat_call import Answer, Cost, ask, cost_of
from callmissed_app.states.exchange import Exchange, exchange, messages
from callmissed_app.states.figures import rupees
from callmissed_app.states.playground import LONGEST_PROMPT, PlaygroundState
from callmissed_app.states.presence import is_watched
from callmissed_app.states.shell import ShellState
from callmissed_app.states.snippets import snippet

EXAMPLE = "Say hello in Hindi."

_EVERY = 0.05
"""Seconds between two looks at the answer that is coming."""

_PATIENCE = 10.0
"""Seconds for which a tab may be gone: reloading is no farewell."""

_OLD_KEY_MS = 540_000
"""After an answer that took so long, the key it began with may have ended."""

_running: dict[str, asyncio.Task[None]] = {}
"""The answers that are coming in this process: one can be stopped also while nothing comes."""


class ConversationState(Base):
    exchanges: list[Exchange] = rx.field(default_factory=list)
    total: str = ""
    sent: int = 0
    """Grows with every question taken, so that the composer is emptied then and not before."""
    streaming: bool = False
    stopping: bool = False
    asked: str = ""
    answering: str = ""
    """Name of the model whose answer is coming."""
    current: str = ""
    thinking: str = ""

    code_open: bool = False
    code_language: str = "curl"
    code: str = ""

    _run: str = ""
    _spent: int = 0

    @handler(background=True)
    async def send(self, caller, form: dict):
        """Ask what the composer holds."""
        return await self._converse(caller, str(form.get("message") or "").strip()[:LONGEST_PROMPT])

    @handler(background=True)
    async def retry(self, caller):
        """Ask the last question once more; the new answer takes the old one's place."""
        return await self._converse(caller, None)

    @handler
    async def stop(self, caller):
        """End the answer that is coming; the connection to the vendor is closed with it."""
        self.stopping = self.streaming
        _cancel(self._run)

    @handler
    async def clear(self, caller):
        """Begin anew; an answer that is coming ends."""
        _cancel(self._run)
        self.exchanges, self.total, self._spent = [], "", 0
        self._rest()

    @handler
    async def show_code(self, caller, language: str):
        """The last call, or an example, as code in `language`."""
        options = await self.get_state(PlaygroundState)
        last = self.exchanges[-1].question if self.exchanges else EXAMPLE
        request = options._request(messages(self.exchanges[:-1], last))
        self.code = snippet(str(language), services().settings.origin, {**request, "stream": True})
        self.code_language, self.code_open = str(language), True

    @handler
    async def hide_code(self, caller):
        """Back to the conversation."""
        self.code_open = False

    async def _converse(self, caller, question: str | None) -> Any:
        async with self:
            request = self._begin(await self.get_state(PlaygroundState), question)
            run = self._run
        if request is None:
            return None
        answer, held = Answer(), services()
        try:
            key = await session_key(held.database, held.secret, caller)
            note = await self._follow(run, ask(answer, held.settings, key, request), answer)
            if answer.total_ms > _OLD_KEY_MS:
                key = await session_key(held.database, held.secret, caller)
            cost = await cost_of(held.settings, key, answer.generation) if answer.generation else None
        except Exception:
            async with self:
                if self._run == run:
                    self._rest()
            raise
        async with self:
            if self._run == run:
                self._end(answer, cost, note)
        return ShellState.refresh_balance

    def _begin(self, options: PlaygroundState, question: str | None) -> dict[str, Any] | None:
        if self.streaming:
            return None
        if question is None and self.exchanges:
            question = self.exchanges[-1].question
            self.exchanges = self.exchanges[:-1]
        if not question:
            return None
        if not options._is_ready:
            self._say("Mend the settings first: one of them is out of range.", "bad")
            return None
        self._run, self.streaming, self.sent = uuid4().hex, True, self.sent + 1
        self.asked, self.answering = question, options.chosen.name
        return options._request(messages(self.exchanges, question))

    async def _follow(self, run: str, call: Any, answer: Answer) -> str:
        """Show the answer as it comes, until it has ended; a note when somebody ended it early."""
        _running[run] = task = asyncio.create_task(call)
        shown, seen, note = ("", ""), time.monotonic(), "Stopped by you."
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_EVERY)
                watched = await is_watched(self)
                seen = time.monotonic() if watched else seen
                if time.monotonic() - seen > _PATIENCE:
                    note = "Stopped, because the page was closed."
                    task.cancel()
                if not watched or shown == (answer.text, answer.thinking):
                    continue
                async with self:
                    if self._run != run:
                        return note
                    self.current, self.thinking = shown = (answer.text, answer.thinking)
            if not task.cancelled():
                task.result()
            return note if task.cancelled() else ""
        finally:
            task.cancel()
            del _running[run]

    def _end(self, answer: Answer, cost: Cost | None, note: str) -> None:
        self.exchanges = [*self.exchanges, exchange(self.asked, self.answering, answer, cost, note)]
        self._spent += cost.charged if cost else 0
        self.total = f"{rupees(self._spent)} in this conversation"
        self._rest()

    def _rest(self) -> None:
        self._run, self.asked, self.current, self.thinking = "", "", "", ""
        self.streaming = self.stopping = False


def _cancel(run: str) -> None:
    if (task := _running.get(run)) is not None:
        task.cancel()
