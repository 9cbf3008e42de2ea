"""The playground's settings: which model is asked, and how."""

from collections.abc import Sequence
from typing import Any

import reflex as rx

from callmissed_app.services import services
from callmissed_app.states.base import Base, handler
from callmissed_app.states.figures import count
from callmissed_app.states.models import Missing, Offer, missing, offers

LONGEST_PROMPT = 200_000
"""Characters: what one message of the socket may hold in any script."""


class PlaygroundState(Base):
    loaded: bool = False
    allowed: bool = True
    """Owners and admins; agents use the playground only within an allowance."""
    offers: list[Offer] = rx.field(default_factory=list)
    missing: list[Missing] = rx.field(default_factory=list)
    more: str = ""
    """How many models wait for a setting, and for which first; "" when none does."""

    chosen: Offer = Offer()
    system: str = ""
    temperature: str = ""
    temperature_error: str = ""
    max_tokens: str = ""
    max_tokens_error: str = ""

    @handler
    async def load(self, caller):
        """The models that answer now; what this tab has set and said stays as it is."""
        self.allowed = caller.role in ("owner", "admin")
        self.offers = offers(caller)
        number, self.missing = missing()
        settings = [group.setting for group in self.missing if group.setting]
        self.more = f"{number}: set {settings[0]} …" if settings else number
        named = self.router.url.query_parameters.get("model", "")
        wanted = (named, self.chosen.id, *services().catalog.default)
        known = {offer.id for offer in self.offers}
        self._choose(next((name for name in wanted if name in known), ""))
        self.loaded = True

    @handler
    async def choose(self, caller, model: str):
        """Ask this model from now on."""
        self._choose(model)

    @handler
    async def keep_system(self, caller, text: str):
        """What the model is told before the conversation."""
        self.system = str(text)[:LONGEST_PROMPT]

    @handler
    async def keep_temperature(self, caller, text: str):
        """0 to 2; nothing leaves it to the model."""
        self.temperature = str(text).strip()[:16]
        number = _number(self.temperature)
        fine = not self.temperature or (number is not None and 0 <= number <= 2)
        self.temperature_error = "" if fine else "A number from 0 to 2."

    @handler
    async def keep_max_tokens(self, caller, text: str):
        """1 to what the model can; nothing leaves it to the model."""
        self.max_tokens = str(text).strip()[:16]
        self._check_max_tokens()

    @property
    def _is_ready(self) -> bool:
        """Whether a call with these settings makes sense."""
        return bool(self.chosen.id) and not self.temperature_error and not self.max_tokens_error

    def _request(self, messages: Sequence[dict[str, str]]) -> dict[str, Any]:
        """The body of a call that goes on with `messages`."""
        told = [{"role": "system", "content": self.system}] if self.system.strip() else []
        request: dict[str, Any] = {"model": self.chosen.id, "messages": [*told, *messages]}
        if self.temperature:
            request["temperature"] = float(self.temperature)
        if self.max_tokens:
            request["max_tokens"] = int(self.max_tokens)
        return request

    def _choose(self, model: str) -> None:
        found = next((offer for offer in self.offers if offer.id == model), None)
        self.chosen = found or next(iter(self.offers), Offer())
        self._check_max_tokens()

    def _check_max_tokens(self) -> None:
        most, text = self.chosen.max_output, self.max_tokens
        fine = not text or (text.isascii() and text.isdigit() and 1 <= int(text) <= most)
        self.max_tokens_error = "" if fine else f"A whole number from 1 to {count(most)}."


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
