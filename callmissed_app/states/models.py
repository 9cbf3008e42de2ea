"""The catalog: what can be asked for now and its price, and which setting would enable the rest."""

from collections import defaultdict
from dataclasses import dataclass

import reflex as rx

from api.catalog.catalog import LOCAL_MODEL, Model
from api.gateway.routing import is_routable, not_configured, why_not
from api.providers.registry import VENDORS
from callmissed_app.services import services
from callmissed_app.states.base import Base, handler
from callmissed_app.states.figures import count, plural, rupees, size


@dataclass
class Offer:
    """A model that answers now. Prices are rupees per million tokens."""

    id: str = ""
    name: str = ""
    description: str = ""
    context: str = ""
    price_in: str = ""
    price_out: str = ""
    max_output: int = 0
    demo: bool = False
    tools: bool = False
    vision: bool = False
    reasoning: bool = False


@dataclass
class Missing:
    """Models that would answer if something was done."""

    how: str
    setting: str
    """The variable to set; "" when it is something else."""
    number: str
    names: str


def offers(caller) -> list[Offer]:
    """The models this person may use now, in the catalog's order."""
    held = services()
    models = held.catalog.models.values()
    return [
        _offer(model)
        for model in models
        if is_routable(held.vendors, model) and why_not(caller, model) is None
    ]


def missing() -> tuple[str, list[Missing]]:
    """How many models cannot be routed, in words ("" for none), and what each setting would bring."""
    held = services()
    absent = [model for model in held.catalog.models.values() if not is_routable(held.vendors, model)]
    groups: dict[str, list[Model]] = defaultdict(list)
    for model in absent:
        for setting in dict.fromkeys(VENDORS[target.vendor].setting for target in model.targets):
            groups[setting].append(model)
    ranked = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return plural(len(absent), "more model") if absent else "", [_missing(*group) for group in ranked]


def _missing(setting: str, models: list[Model]) -> Missing:
    local = models[0].id == LOCAL_MODEL
    return Missing(
        how=not_configured(models[0]).replace("`", "") if local else "",
        setting="" if local else setting,
        number=plural(len(models), "model"),
        names=", ".join(model.name for model in models),
    )


def _offer(model: Model) -> Offer:
    return Offer(
        id=model.id,
        name=model.name,
        description=model.description,
        context=size(model.context),
        price_in=rupees(model.prices["input"]),
        price_out=rupees(model.prices["output"]),
        max_output=model.max_output,
        demo=model.demo,
        tools=model.tools,
        vision=model.vision,
        reasoning=model.reasoning,
    )


class ModelsState(Base):
    offers: list[Offer] = rx.field(default_factory=list)
    missing: list[Missing] = rx.field(default_factory=list)
    missing_number: str = ""
    number: str = ""
    loaded: bool = False

    @handler
    async def load(self, caller):
        """The catalog as this server is set up now."""
        self.offers = offers(caller)
        self.number = count(len(self.offers))
        self.missing_number, self.missing = missing()
        self.loaded = True
