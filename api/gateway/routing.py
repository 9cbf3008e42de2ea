"""From the id a caller names to the targets that can answer it, in order."""

import msgspec

from api.catalog.catalog import AUTO, LOCAL_MODEL, Catalog, Model, Target
from api.errors import ApiError, forbidden, invalid_request, model_not_found, unavailable
from api.providers.registry import VENDORS, Vendors
from api.types import Caller
from api.wire.chat import ChatRequest


class Route(msgspec.Struct, frozen=True):
    """The model that answers, and the targets to try in this order (never empty)."""

    model: Model
    targets: tuple[Target, ...]


def route(catalog: Catalog, vendors: Vendors, caller: Caller, request: ChatRequest) -> Route:
    """Where `request` goes.

    Raises ApiError: 404 for an id that is not in the catalog, 403 when this caller may not use it, 400 when
    the request asks for what the model cannot do, 503 naming the setting when its vendor is not configured.
    """
    model = _model(catalog, vendors, caller, request.model)
    if refusal := why_not(caller, model):
        raise refusal
    if request.has_images and not model.vision:
        raise ApiError(
            400,
            "unsupported_image_input",
            f"The model '{model.id}' does not read images. Choose one with vision: see GET /v1/models.",
            param="messages",
        )
    if request.max_tokens and request.max_tokens > model.max_output:
        raise invalid_request(
            f"max_tokens is too large: {request.max_tokens}. '{model.id}' answers with at most "
            f"{model.max_output} tokens.",
            param="max_tokens",
        )
    targets = tuple(target for target in model.targets if vendors.is_ready(target.vendor))
    if not targets:
        raise unavailable("service_unavailable", not_configured(model), retry_after=60)
    return Route(model, targets)


def why_not(caller: Caller, model: Model) -> ApiError | None:
    """The refusal when `caller` may not use `model`; None when it may."""
    if not caller.live and not model.id.startswith("local/"):
        return forbidden("model_not_allowed", "A test key reaches only models whose id starts with 'local/'.")
    if caller.allowed_models is not None and model.id not in caller.allowed_models:
        return forbidden("model_not_allowed", f"This API key may not use the model '{model.id}'.")
    if caller.plan == "free" and not model.free:
        return forbidden(
            "model_not_available",
            f"Model '{model.id}' requires a paid plan. See GET /api/v1/models/access for the models of the "
            "free plan.",
        )
    return None


def is_routable(vendors: Vendors, model: Model) -> bool:
    """Whether at least one of the model's vendors is configured."""
    return any(vendors.is_ready(target.vendor) for target in model.targets)


def not_configured(model: Model) -> str:
    """A sentence that names the settings which would make `model` answer."""
    if model.id == LOCAL_MODEL:
        return "The local model is not installed on this server. Run `python -m api models pull`."
    names = " or ".join(dict.fromkeys(VENDORS[target.vendor].setting for target in model.targets))
    return f"The model '{model.id}' is not configured on this server: its operator must set {names}."


def _model(catalog: Catalog, vendors: Vendors, caller: Caller, asked: str) -> Model:
    if asked and asked != AUTO:
        found = catalog.models.get(asked)
        if found is None:
            raise model_not_found(asked)
        return found
    usual = [catalog.models[name] for name in catalog.default if name in catalog.models]
    for model in usual:
        if is_routable(vendors, model) and why_not(caller, model) is None:
            return model
    if not usual:
        raise model_not_found(asked or AUTO)
    return usual[0]
