"""The bundle over HTTP: encodings, caching, pages, and nothing outside the folder."""

import base64
import gzip
import hashlib
from pathlib import Path

import httpx2
import pytest

from callmissed_app.bundle import page_finder
from callmissed_app.static import bundle_app

SCRIPT = "document.title = 'hello'"
PAGE = f"<html><head><script>{SCRIPT}</script><script src='/assets/a.js'></script></head></html>"
CODE = b"export const answer = 42;" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bundle = tmp_path / "client"
    (bundle / "assets").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("do not serve me")
    for name in ("index.html", "login.html", "404.html"):
        (bundle / name).write_text(PAGE + name)
    (bundle / "docs").mkdir()
    (bundle / "docs" / "index.html").write_text(PAGE + "docs")
    (bundle / "assets" / "root-DvAWn9IK.js").write_bytes(CODE)
    (bundle / "assets" / "root-DvAWn9IK.js.gz").write_bytes(gzip.compress(CODE))
    (bundle / "assets" / "root-DvAWn9IK.js.br").write_bytes(b"brotli bytes")
    (bundle / "favicon.ico").write_bytes(b"icon")
    return bundle


@pytest.fixture
def client(folder: Path) -> httpx2.AsyncClient:
    routes = {"/": "index", "/index": "index", "/logs/7": "logs/[id]", "/404": "404"}
    app = bundle_app(folder, page_finder(routes.get))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://bundle.test")


async def test_a_hashed_file_is_compressed_and_cached_for_ever(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/assets/root-DvAWn9IK.js", headers={"accept-encoding": "gzip"})
    assert answer.content == CODE
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < len(CODE) / 10
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("br; q=0.0, *", "gzip"),
        ("identity", None),
        ("", None),
        ("*;q=0", None),
    ],
)
async def test_the_client_gets_an_encoding_it_takes(
    client: httpx2.AsyncClient, accepted: str, encoding: str | None
) -> None:
    async with client.stream(
        "GET", "/assets/root-DvAWn9IK.js", headers={"accept-encoding": accepted}
    ) as answer:
        body = b"".join([block async for block in answer.aiter_raw()])
    assert answer.headers.get("content-encoding") == encoding
    assert body == {"br": b"brotli bytes", "gzip": body, None: CODE}[encoding]
    assert encoding != "gzip" or gzip.decompress(body) == CODE


@pytest.mark.parametrize(
    ("path", "status", "shown"),
    [
        ("/", 200, "index.html"),
        ("/login", 200, "login.html"),
        ("/login/", 200, "login.html"),
        ("/docs", 200, "docs"),
        ("/logs/7", 200, "404.html"),
        ("/logs/8", 404, "404.html"),
        ("/404", 404, "404.html"),
        ("/404.html", 404, "404.html"),
    ],
)
async def test_a_page_answers_200_and_an_unknown_path_404_with_the_app(
    client: httpx2.AsyncClient, path: str, status: int, shown: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.text == PAGE + shown
    assert answer.headers["cache-control"] == "no-cache"


async def test_a_file_of_an_earlier_build_is_404_and_never_a_page(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/assets/root-AAAAAAAA.js")
    assert (answer.status_code, answer.headers["cache-control"], answer.text) == (
        404,
        "no-store",
        "Not found",
    )


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "//etc/passwd",
        "/..%5csecret.txt",
    ],
)
async def test_no_path_leads_out_of_the_folder(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(httpx2.URL("http://bundle.test").copy_with(raw_path=path.encode()))
    assert answer.status_code == 404
    assert "do not serve me" not in answer.text
    assert "root:" not in answer.text


async def test_an_unchanged_file_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    first = await client.get("/login")
    again = await client.get("/login", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await client.get("/", headers={"if-none-match": first.headers["etag"]})
    assert other.status_code == 200


async def test_a_page_runs_its_own_scripts_only_and_nobody_frames_it(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/login")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_head_has_the_headers_without_the_body_and_nothing_else_is_allowed(
    client: httpx2.AsyncClient,
) -> None:
    head = await client.head("/favicon.ico")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "4", b"")
    post = await client.post("/login", content=b"x")
    assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD")


async def test_a_rebuild_beneath_a_running_server_is_not_seen(
    client: httpx2.AsyncClient, folder: Path
) -> None:
    (folder / "assets" / "root-DvAWn9IK.js").unlink()
    (folder / "assets" / "root-DvAWn9IK.js.gz").unlink()
    assert (await client.get("/assets/root-DvAWn9IK.js", headers={"accept-encoding": "gzip"})).content == CODE


def test_a_missing_bundle_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no built dashboard"):
        bundle_app(tmp_path, lambda path: True)
