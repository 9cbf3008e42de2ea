"""The local model's weights, one copy for all tests: `python -m api models pull` fetches it once."""

import os
from pathlib import Path

import pytest

from api.providers.weights import load_weights
from api.settings import Settings

FOLDER = Path(os.environ.get("CALLMISSED_TEST_MODELS_DIR") or Path(__file__).parents[1] / "data" / "models")


def lend_weights(settings: Settings) -> Path:
    """The local model stands in the data folder of `settings`, as a link to the copy all tests share."""
    weights = load_weights()["smollm2-135m"]
    if not (FOLDER / weights.file).is_file():
        pytest.fail(f"{FOLDER / weights.file} is missing: run `python -m api models pull` first.")
    path = weights.path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to((FOLDER / weights.file).resolve())
    return path
