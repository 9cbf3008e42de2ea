"""The doors: who is signed in already is let through. Credentials never come here (`assets/session.js`)."""

import reflex as rx

from api.money import MICRO, rupees_text
from callmissed_app.services import services
from callmissed_app.states.base import Base, handler


class EntranceState(Base):
    ready: bool = False
    bonus: str = ""
    """What a new account starts with; "" when that is nothing."""

    @handler(public=True)
    async def enter(self):
        """On to the overview for who is signed in; for the others, what the page says about this server."""
        if await self._caller():
            return rx.redirect("/")
        credits = services().settings.signup_bonus_credits
        self.bonus = rupees_text(credits * MICRO, places=0) if credits else ""
        self.ready = True
