"""The README is true: its settings, error codes, vendors and commands are those of the code."""

import ast
import re
from pathlib import Path

from api.catalog.catalog import load_catalog
from api.providers.registry import VENDORS
from api.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CODE = re.compile(r"[a-z][a-z_]+")


def settings_table() -> str:
    """The table as the README must hold it; print it to mend the README."""
    lines = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        if name == "vendors":
            continue
        variable = field.validation_alias or f"CALLMISSED_{name.upper()}"
        default = "" if field.default is None else f"`{field.default}`"
        lines.append(f"| `{variable}` | {default} | {field.description} |")
    return "\n".join(lines)


def raised_codes() -> set[str]:
    """Every stable code the API's sources can answer with."""
    makers = {"ApiError": 1, "forbidden": 0, "too_many": 0, "unavailable": 0, "no_credits": 1}
    codes = set()
    for path in (ROOT / "api").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers:
                place = makers[node.func.id]
                given = node.args[place] if len(node.args) > place else None
                if isinstance(given, ast.Constant) and CODE.fullmatch(str(given.value)):
                    codes.add(given.value)
    return codes | {"insufficient_credits"}


def test_the_settings_table_is_the_settings() -> None:
    assert settings_table() in README, f"\n{settings_table()}"


def test_every_error_code_is_listed() -> None:
    listed = set(re.findall(r"`([a-z_]+)`", README.split("## Errors")[1].split("## Map")[0]))
    assert raised_codes() - listed == set()


def test_every_vendor_names_its_setting() -> None:
    for vendor in VENDORS.values():
        assert vendor.name == "local" or vendor.name.upper() in README


def test_the_models_of_the_table_exist(tmp_path: Path) -> None:
    models = load_catalog(load_settings(data_dir=tmp_path, vendors={})).models
    table = README.split("### Models")[1].split("A vendor's key")[0]
    for name in re.findall(r"`([a-z0-9./-]+)`", table):
        assert name in models or name in {"auto"}, name


def test_every_room_is_on_the_map() -> None:
    drawn = README.split("## Map")[1]
    rooms = {path.parent.name for path in (ROOT / "api").glob("*/__init__.py")}
    assert {room for room in rooms if f"{room}/" not in drawn} == set()
