"""One bundle, any address: the built pages call the origin they were loaded from.

Reflex writes the server's address into the bundle as text, in a chunk of its own. After every build this
plugin puts the browser's own origin in its place: the same files work on any port, host name and scheme.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from reflex_base.plugins.base import Plugin, PostBuildContext

# Whatever text the address is, the chunk has it as the start of template strings: `http://name/ping`.
_ADDRESS = re.compile(r"`(http|ws)s?://[^/`]+(/[^`]*)`")

# Reflex knows these hosts as "same machine" and then forgets the port of an https page.
_SAME_MACHINE = "[`localhost`,`0.0.0.0`,`::`,`0:0:0:0:0:0:0:0`]"


class SameOrigin(Plugin):
    """Makes the exported bundle independent of the address it is served at."""

    def post_build(self, **context: Unpack[PostBuildContext]) -> None:
        """Rewrites the two places in `static_dir`. Raises RuntimeError when Reflex writes them otherwise."""
        scripts = sorted((Path(context["static_dir"]) / "assets").glob("*.js"))
        _rewrite_one([path for path in scripts if path.name.startswith("reflex-env-")], same_origin)
        _rewrite_one([path for path in scripts if _SAME_MACHINE in path.read_text()], keep_port)


def page_finder(router: Callable[[str], str | None]) -> Callable[[str], bool]:
    """Tells from Reflex's `App.router` whether a path is one of the app's pages.

    The router also knows a page "404" and calls the first page "/index"; the browser's side knows neither.
    """

    def is_page(path: str) -> bool:
        route = router(path)
        return route is not None and route != "404" and not (route == "index" and path.strip("/"))

    return is_page


def same_origin(chunk: str) -> str:
    """The address chunk with every address replaced by the page's own origin."""

    def own(address: re.Match[str]) -> str:
        origin = "location.origin" if address[1] == "http" else "location.origin.replace(/^http/,`ws`)"
        return f"{origin}+`{address[2]}`"

    return _ADDRESS.sub(own, chunk)


def keep_port(chunk: str) -> str:
    """The client with no host name whose port is dropped under https."""
    return chunk.replace(_SAME_MACHINE, "[]")


def _rewrite_one(paths: list[Path], rewritten: Callable[[str], str]) -> None:
    if len(paths) != 1:
        raise RuntimeError(f"Expected one chunk to rewrite for {rewritten.__name__}, found {len(paths)}.")
    before = paths[0].read_text()
    after = rewritten(before)
    if after == before:
        raise RuntimeError(f"Found nothing to rewrite in {paths[0].name} for {rewritten.__name__}.")
    paths[0].write_text(after)
