"""The frame around every page: who is signed in, and what is left to spend."""

from api.ledger import balance
from api.money import rupees_text
from api.tenants.profile import load_profile
from callmissed_app.services import reading, services
from callmissed_app.states.base import Base, handler


class ShellState(Base):
    name: str = ""
    email: str = ""
    initials: str = ""
    organization: str = ""
    plan: str = ""
    balance: str = ""
    """What can be spent now: held credits are not in it."""

    @handler
    async def load(self, caller):
        """Everything the frame shows, as it is now; what the last page said is gone."""
        self.notice = ""
        profile = await load_profile(services().database, caller)
        self.name, self.email = profile.full_name, profile.email
        self.initials = initials(profile.full_name)
        self.organization = profile.tenant_name
        self.plan = plan_name(profile.plan)
        await self._load_balance(caller)

    @handler
    async def refresh_balance(self, caller):
        """The balance as it is now: for pages that have just spent something."""
        await self._load_balance(caller)

    async def _load_balance(self, caller) -> None:
        async with reading(caller) as session:
            self.balance = rupees_text((await balance(session)).available)


def initials(name: str) -> str:
    """One or two capitals that stand for a person."""
    words = name.split()
    return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper() or "?"


def plan_name(plan: str) -> str:
    """A plan's name for people: `self_hosted` is `Self-hosted plan`."""
    return plan.replace("_", "-").capitalize() + " plan"
