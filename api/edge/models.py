"""The model lists of `/v1` and `/api/v1`: what can be asked for now, and its price."""

from typing import Any

from fastapi import APIRouter, Query, Request

from api.catalog.catalog import Model
from api.edge.bearer import caller_of
from api.edge.roots import roots
from api.errors import model_not_found
from api.gateway.routing import is_routable, not_configured, why_not
from api.gateway.services import Services
from api.money import credits_number

router = APIRouter()


def describe(model: Model) -> dict[str, Any]:
    """The product's model object; prices in credits and, where they are set in dollars, in dollars too."""
    credits = {name: credits_number(price) for name, price in model.prices.items()}
    pricing: dict[str, Any] = {"unit": "per_million_tokens", "currency": "credits", **credits}
    if model.usd:
        pricing["usd"] = {name: float(price) for name, price in model.usd.items()}
    return {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": model.owned_by,
        "name": model.name,
        "description": model.description,
        "category": model.category,
        "context_window": model.context,
        "context_length": model.context,
        "max_output_tokens": model.max_output,
        "pricing": pricing,
        "price_version": model.price_version,
        "free": model.free,
        "demo": model.demo,
        "supports_streaming": True,
        "supports_tools": model.tools,
        "supports_reasoning": model.reasoning,
        "supports_vision": model.vision,
    }


def _routable(services: Services) -> list[Model]:
    return [model for model in services.catalog.models.values() if is_routable(services.vendors, model)]


@router.get("/v1/models", tags=["Models"])
async def list_for_key(request: Request) -> dict[str, Any]:
    """The models this key may use now, in OpenAI's list shape with our fields beside."""
    services = roots(request)
    caller = await caller_of(services, request.scope)
    models = [describe(model) for model in _routable(services) if why_not(caller, model) is None]
    return {"object": "list", "data": models}


@router.get("/v1/models/{model_id:path}", tags=["Models"])
async def one_for_key(request: Request, model_id: str) -> dict[str, Any]:
    """One model; 404 `model_not_found` when it does not exist or cannot be routed."""
    services = roots(request)
    caller = await caller_of(services, request.scope)
    model = services.catalog.models.get(model_id)
    if model is None or not is_routable(services.vendors, model) or why_not(caller, model):
        raise model_not_found(model_id)
    return describe(model)


@router.get("/api/v1/models", tags=["Models"])
async def list_public(
    request: Request, category: str | None = Query(None, max_length=32), free: bool | None = None
) -> dict[str, Any]:
    """Every routable model, and under `unavailable` what the rest would need. No credential needed."""
    services = roots(request)
    wanted = [
        model
        for model in services.catalog.models.values()
        if category in (None, model.category) and free in (None, model.free)
    ]
    return {
        "object": "list",
        "data": [describe(model) for model in wanted if is_routable(services.vendors, model)],
        "unavailable": [
            {"id": model.id, "name": model.name, "reason": not_configured(model)}
            for model in wanted
            if not is_routable(services.vendors, model)
        ],
    }


@router.get("/api/v1/models/access", tags=["Models"])
async def access(request: Request) -> dict[str, Any]:
    """Which plan reaches which models."""
    models = _routable(roots(request))
    free = [model for model in models if model.free]
    everything = dict.fromkeys(("self_hosted", "starter", "pro", "enterprise"), models)
    return {"plans": {plan: _plan(listed) for plan, listed in {"free": free, **everything}.items()}}


@router.get("/api/v1/models/{model_id:path}", tags=["Models"])
async def one_public(request: Request, model_id: str) -> dict[str, Any]:
    """One routable model."""
    services = roots(request)
    model = services.catalog.models.get(model_id)
    if model is None or not is_routable(services.vendors, model):
        raise model_not_found(model_id)
    return describe(model)


def _plan(models: list[Model]) -> dict[str, Any]:
    categories = sorted({model.category for model in models})
    return {
        "models": [model.id for model in models],
        "by_category": {name: [m.id for m in models if m.category == name] for name in categories},
        "restriction": f"{len(models)} models",
    }
