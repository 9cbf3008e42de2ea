"""The built bundle names no address, and a Reflex that builds differently is noticed at the build."""

from pathlib import Path

import pytest

from callmissed_app.bundle import SameOrigin, keep_port, same_origin

CHUNK = (
    "var e={PING:`http://name.invalid/ping`,EVENT:`ws://name.invalid/_event`,TEST_MODE:!1};export{e as t};"
)
CLIENT = "x=1,Mn=[`localhost`,`0.0.0.0`,`::`,`0:0:0:0:0:0:0:0`],y=2"


def test_every_address_becomes_the_pages_own_origin() -> None:
    assert same_origin(CHUNK) == (
        "var e={PING:location.origin+`/ping`,EVENT:location.origin.replace(/^http/,`ws`)+`/_event`,"
        "TEST_MODE:!1};export{e as t};"
    )


def test_https_on_localhost_keeps_its_port() -> None:
    assert keep_port(CLIENT) == "x=1,Mn=[],y=2"


@pytest.mark.parametrize(
    "chunks",
    [
        {"reflex-env-1.js": CHUNK},
        {"root-1.js": CLIENT},
        {"reflex-env-1.js": "var e={}", "root-1.js": CLIENT},
        {"reflex-env-1.js": CHUNK, "reflex-env-2.js": CHUNK, "root-1.js": CLIENT},
    ],
)
def test_a_build_without_the_known_places_fails(tmp_path: Path, chunks: dict[str, str]) -> None:
    (tmp_path / "assets").mkdir()
    for name, text in chunks.items():
        (tmp_path / "assets" / name).write_text(text)
    with pytest.raises(RuntimeError):
        SameOrigin().post_build(static_dir=tmp_path)
