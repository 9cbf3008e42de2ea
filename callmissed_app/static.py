"""Serves the built bundle: compressed ahead of time, cached for ever where a name holds a hash, nothing else.

The table of files is read once. A request can only reach what is in it, so no path leads out of the folder,
and a rebuild beneath a running server changes nothing for the people who use it.
"""

import base64
import gzip
import hashlib
import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

_SIDECARS = {"br": ".br", "gzip": ".gz"}
_HASHED_NAME = re.compile(r"/assets/.+-[A-Za-z0-9_-]{8}\.\w+$")
_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_REFUSED = re.compile(r"q\s*=\s*0(\.0*)?")
_FALLBACK = "/404.html"
# What Python's own table does not know everywhere.
_KINDS = {".js": "text/javascript", ".woff2": "font/woff2", ".svg": "image/svg+xml"}

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Asset:
    """One file in every encoding it has; "identity" is missing where it can be had from "gzip"."""

    bodies: dict[str, bytes]
    etag: bytes
    headers: tuple[Header, ...]


def bundle_app(folder: Path, is_page: Callable[[str], bool]) -> ASGIApp:
    """An ASGI app for the bundle in `folder`. A path without a file shows the app, which draws its page or
    says that there is none: 200 where `is_page(path)`, else 404.

    Raises FileNotFoundError when there is no bundle.
    """
    assets = _read(folder)
    if _FALLBACK not in assets:
        raise FileNotFoundError(f"There is no built dashboard in {folder}.")

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD"):
            await _send(send, 405, [(b"allow", b"GET, HEAD")], b"")
            return
        status, asset = _find(assets, path, is_page)
        if asset is None:
            await _send(send, 404, [(b"cache-control", b"no-store")], b"Not found", headless=method == "HEAD")
            return
        asked = dict(scope["headers"])
        if status == 200 and asset.etag in asked.get(b"if-none-match", b""):
            await _send(send, 304, [(b"etag", asset.etag), *asset.headers], None)
            return
        encoding, body = _encoded(asset, asked.get(b"accept-encoding", b"").decode("latin-1"))
        headers = [(b"etag", asset.etag), *asset.headers]
        if encoding != "identity":
            headers.append((b"content-encoding", encoding.encode()))
        await _send(send, status, headers, body, headless=method == "HEAD")

    return serve


def _find(assets: dict[str, Asset], path: str, is_page: Callable[[str], bool]) -> tuple[int, Asset | None]:
    place = path.rstrip("/")
    for name in (path, f"{place}.html", f"{place}/index.html"):
        if name in assets and name != _FALLBACK:
            return 200, assets[name]
    if path.startswith("/assets/"):
        return 404, None
    return 200 if is_page(path) else 404, assets[_FALLBACK]


def _encoded(asset: Asset, accepted: str) -> tuple[str, bytes]:
    wanted = {}
    for entry in accepted.lower().split(","):
        name, _, quality = entry.partition(";")
        wanted[name.strip()] = not _REFUSED.fullmatch(quality.strip())
    for encoding in _SIDECARS:
        if encoding in asset.bodies and wanted.get(encoding, wanted.get("*", False)):
            return encoding, asset.bodies[encoding]
    if "identity" in asset.bodies:
        return "identity", asset.bodies["identity"]
    return "identity", gzip.decompress(asset.bodies["gzip"])


async def _send(
    send: Send, status: int, headers: list[Header], body: bytes | None, *, headless: bool = False
) -> None:
    length = [] if body is None else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b"" if body is None or headless else body})


def _read(folder: Path) -> dict[str, Asset]:
    paths = {f"/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if path.is_file()}
    sidecars = tuple(_SIDECARS.values())
    return {
        name: _asset(name, path)
        for name, path in paths.items()
        if not (name.endswith(sidecars) and name.rsplit(".", 1)[0] in paths)
    }


def _asset(name: str, path: Path) -> Asset:
    content = path.read_bytes()
    bodies = {
        encoding: Path(f"{path}{suffix}").read_bytes()
        for encoding, suffix in _SIDECARS.items()
        if Path(f"{path}{suffix}").is_file()
    }
    if "gzip" not in bodies:
        bodies["identity"] = content
    kind = _KINDS.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    lasting = "public, max-age=31536000, immutable" if _HASHED_NAME.search(name) else "no-cache"
    headers = [
        (b"content-type", kind.encode()),
        (b"cache-control", lasting.encode()),
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if path.suffix == ".html":
        headers += [
            (b"content-security-policy", _policy(content.decode()).encode()),
            (b"referrer-policy", b"same-origin"),
        ]
    return Asset(bodies, f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'.encode(), tuple(headers))


def _policy(page: str) -> str:
    """Our own scripts and the page's inline ones run; no other site is asked for anything or may frame us.

    No script comes as text at run time: what a handler would send as `rx.call_script` is refused.
    """
    digests = {hashlib.sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(page)}
    hashes = " ".join(sorted(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests))
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' {hashes}".rstrip(),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            "object-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
