"""Which web pages may use a key: host names, `*.host` for every name below one, or `*` for all.

The check reads what a browser says of itself (`Origin`, else `Referer`). It keeps other sites' pages from
using a key that was published in a page; it is no secret and stops nobody outside a browser.
"""

import re
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from api.tenants.permissions import split

MOST = 100
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")


def parse_domains(value: str | Iterable[str]) -> list[str]:
    """The allowlist in its stored form. Raises `ValueError` for what is no host name; empty means all."""
    names = split(value)
    if not names or "*" in names:
        return ["*"]
    if len(names) > MOST:
        raise ValueError(f"at most {MOST} domains")
    return sorted({_parse_domain(name) for name in names})


def is_allowed(domains: Collection[str] | None, *, origin: str | None, referer: str | None) -> bool:
    """Whether the page that asks is on the list; None is every page, and every caller that is no page."""
    if domains is None:
        return True
    host = _host_of(origin or referer or "")
    if not host:
        return False
    if host in domains:
        return True
    return any(host.endswith(domain[1:]) for domain in domains if domain.startswith("*."))


def _parse_domain(text: str) -> str:
    wild = text.startswith("*.")
    try:
        host = text.removeprefix("*.").encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("a domain is a host name such as example.com or *.example.com") from None
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or (wild and len(labels) < 2):
        raise ValueError("a domain is a host name such as example.com or *.example.com, without port or path")
    return f"*.{host}" if wild else host


def _host_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
