"""Reads `models.toml` and the operator's additions into values; refuses a row that is wrong."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from api.catalog.prices import CLASSES, version_of
from api.money import micro, micro_of_usd
from api.settings import Settings

BUILT_IN = Path(__file__).with_name("models.toml")
LOCAL_MODEL = "local/smollm2-135m"
AUTO = "auto"


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place a model runs: a vendor, its name there, and fields the request must carry there."""

    vendor: str
    model: str
    extra: dict[str, Any] = {}


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    name: str
    targets: list[Target]
    category: str = "llm"
    description: str = ""
    owned_by: str = ""
    context: int = 8192
    max_output: int = 8192
    working_output: int = 2048
    usd: dict[str, str] = {}
    credits: dict[str, str] = {}
    free: bool = False
    tools: bool = False
    reasoning: bool = False
    vision: bool = False
    demo: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: list[_Row] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A public id with its targets in order, its capabilities and its prices."""

    id: str
    name: str
    category: str
    description: str
    owned_by: str
    context: int
    max_output: int
    """Most output tokens one answer may have."""
    working_output: int
    """Output tokens held for when the caller names no maximum; a stream extends it in slices."""
    free: bool
    tools: bool
    reasoning: bool
    vision: bool
    demo: bool
    targets: tuple[Target, ...]
    prices: Mapping[str, int]
    """Micro-credits per million tokens, by class."""
    price_version: str
    usd: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every model that has a price, by id; and what `auto` or no model at all means, in order."""

    models: Mapping[str, Model]
    default: tuple[str, ...]


def load_catalog(settings: Settings) -> Catalog:
    """The built-in catalog with the operator's file on top.

    Raises ValueError naming the file and the field when a row is wrong.
    """
    extra = settings.catalog_file or settings.data_dir / "models.toml"
    if settings.catalog_file and not extra.is_file():
        raise ValueError(f"CALLMISSED_CATALOG_FILE names {extra}, which does not exist.")
    rows: dict[str, Model] = {}
    for path in (BUILT_IN, *([extra] if extra.is_file() else [])):
        for row in _read(path).models:
            rows[row.id] = _model(row, path, settings.credits_per_usd)
    return Catalog(models=rows, default=(settings.default_model, LOCAL_MODEL))


def _read(path: Path) -> _File:
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), _File)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _model(row: _Row, path: Path, credits_per_usd: int) -> Model:
    prices = _prices(row, path, credits_per_usd)
    if not row.targets:
        raise ValueError(f"{path}: model {row.id!r} has no targets.")
    if not 0 < row.working_output <= min(row.max_output, 8192):
        raise ValueError(f"{path}: model {row.id!r}: working_output must be 1 to min(max_output, 8192).")
    return Model(
        id=row.id,
        name=row.name,
        category=row.category,
        description=row.description,
        owned_by=row.owned_by or row.targets[0].vendor,
        context=row.context,
        max_output=row.max_output,
        working_output=row.working_output,
        free=row.free,
        tools=row.tools,
        reasoning=row.reasoning,
        vision=row.vision,
        demo=row.demo,
        targets=tuple(row.targets),
        prices=prices,
        price_version=version_of(row.id, prices),
        usd=row.usd,
    )


def _prices(row: _Row, path: Path, credits_per_usd: int) -> dict[str, int]:
    """Prices per class; a class that is not named costs what plain input costs."""
    given = row.usd or row.credits
    if not {"input", "output"} <= given.keys() <= set(CLASSES) or (row.usd and row.credits):
        raise ValueError(f"{path}: model {row.id!r} needs `usd` or `credits` with input and output prices.")
    if any(Decimal(price) <= 0 for price in given.values()):
        raise ValueError(f"{path}: model {row.id!r}: a price must be above zero.")
    convert = (lambda price: micro_of_usd(price, credits_per_usd)) if row.usd else micro
    return {name: convert(given.get(name, given["input"])) for name in CLASSES}
