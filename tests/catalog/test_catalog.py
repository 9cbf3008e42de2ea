"""The catalog refuses rows it could not bill, and prices are exact."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.catalog.catalog import load_catalog
from api.catalog.prices import CLASSES, cost, parts, version_of
from api.money import MICRO, charge, credits_text, micro, micro_of_usd, rupees_text
from api.settings import Settings, load_settings
from api.types import TokenUsage


def settings(tmp_path: Path, rows: str | None = None, **fields: object) -> Settings:
    if rows is not None:
        (tmp_path / "models.toml").write_text(rows)
    return load_settings(data_dir=tmp_path, vendors={}, **fields)


ROW = """
[[models]]
id = "mine"
name = "Mine"
targets = [{ vendor = "openai", model = "theirs" }]
"""


def test_every_built_in_model_has_a_price_for_every_class(tmp_path: Path) -> None:
    for model in load_catalog(settings(tmp_path)).models.values():
        assert set(model.prices) == {"input", "cached", "cache_write", "output"}
        assert min(model.prices.values()) > 0


def test_dollar_prices_convert_at_the_setting(tmp_path: Path) -> None:
    kimi = load_catalog(settings(tmp_path, credits_per_usd=96)).models["kimi-k2.5"]
    assert kimi.prices["input"] == 77_760_000 and kimi.prices["output"] == 388_800_000


def test_the_documented_example_costs_what_the_documentation_says() -> None:
    """500 in and 200 out at $0.8438 and $4.219 per million are 0.1215 credits."""
    prices = {"input": micro_of_usd("0.8438", 96), "output": micro_of_usd("4.219", 96)}
    owed = cost(TokenUsage(input=500, output=200), {**prices, "cached": 0, "cache_write": 0})
    assert credits_text(owed)[:6] == "0.1215"


def test_a_charge_is_rounded_once_and_up() -> None:
    assert charge((1, 1), (1, 1)) == 1
    assert charge((1_000_000, 3), (1, 1)) == 4
    assert charge() == 0


@given(
    st.builds(TokenUsage, *[st.integers(0, 10**9)] * 4),
    st.lists(st.integers(1, 10**9), min_size=4, max_size=4),
)
def test_a_cost_is_the_charge_of_its_parts(usage: TokenUsage, prices: list[int]) -> None:
    named = dict(zip(CLASSES, prices, strict=True))
    assert cost(usage, named) == charge(*((units, price) for _, units, price in parts(usage, named)))


def test_the_local_model_is_never_free_of_charge(tmp_path: Path) -> None:
    local = load_catalog(settings(tmp_path)).models["local/smollm2-135m"]
    assert cost(TokenUsage(input=1), local.prices) == 1
    assert cost(TokenUsage(input=1_000_000, output=1_000_000), local.prices) == 3 * MICRO


def test_the_operators_file_adds_and_replaces_rows(tmp_path: Path) -> None:
    rows = (
        ROW
        + 'usd = { input = "1", output = "2" }\n'
        + ROW.replace('"mine"', '"gpt-4o"')
        + 'credits = { input = "1", output = "2" }\n'
    )
    models = load_catalog(settings(tmp_path, rows)).models
    assert models["mine"].prices["output"] == 192 * MICRO
    assert models["gpt-4o"].name == "Mine"


@pytest.mark.parametrize(
    "price",
    [
        "",
        'usd = { input = "1" }',
        'usd = { input = "1", output = "0" }',
        'usd = { input = "1", output = "-2" }',
        'usd = { input = "1", output = "2", laughter = "3" }',
        'usd = { input = "1", output = "2" }\ncredits = { input = "1", output = "2" }',
        'usd = { input = "1", output = "2" }\nworking_output = 9000',
        'usd = { input = "1", output = "2" }\nsurprise = true',
    ],
)
def test_a_row_that_could_not_be_billed_stops_the_start(tmp_path: Path, price: str) -> None:
    with pytest.raises(ValueError, match=r"models\.toml"):
        load_catalog(settings(tmp_path, ROW + price))


def test_a_price_version_names_its_prices() -> None:
    assert version_of("m", {"input": 1, "output": 2}) == version_of("m", {"output": 2, "input": 1})
    assert version_of("m", {"input": 1, "output": 2}) != version_of("m", {"input": 1, "output": 3})


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "₹0.00"),
        (999 * MICRO, "₹999.00"),
        (1_000 * MICRO, "₹1,000.00"),
        (12_345_678_900_000, "₹1,23,45,678.90"),
        (-100_000 * MICRO, "-₹1,00,000.00"),
    ],
)
def test_rupees_are_grouped_in_lakh_and_crore(amount: int, text: str) -> None:
    assert rupees_text(amount) == text


def test_credits_are_shown_exactly() -> None:
    assert [credits_text(micro(value)) for value in ("0", "1000", "0.000001", "10.5")] == [
        "0",
        "1000",
        "0.000001",
        "10.5",
    ]
