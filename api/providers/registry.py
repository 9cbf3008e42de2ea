"""The vendors. One that differs only in data is a row here; one that needs behaviour gets a file of its own.

A vendor is configured by `<NAME>_API_KEY` and `<NAME>_BASE_URL`; the key is optional when the address is set.
"""

from dataclasses import dataclass
from typing import Protocol

from api.providers.transport import HeaderBlock, header_block
from api.providers.transport import Target as Address
from api.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """What differs between vendors that speak OpenAI's chat wire."""

    name: str
    title: str
    base_url: str = ""
    """Up to the version, without a trailing slash; empty for the engine inside this server."""
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    headers: tuple[tuple[str, str], ...] = ()
    takes_stream_options: bool = True
    """Whether `stream_options.include_usage` is understood; without it usage comes unasked or not at all."""
    drops: frozenset[str] = frozenset()
    """Top-level fields the vendor refuses."""

    @property
    def setting(self) -> str:
        """The variable that turns the vendor on."""
        return "LOCAL" if self.name == "local" else f"{self.name.upper()}_API_KEY"


VENDORS = {
    vendor.name: vendor
    for vendor in (
        Vendor(name="local", title="This server"),
        Vendor(name="openai", title="OpenAI", base_url="https://api.openai.com/v1"),
        Vendor(
            name="openrouter",
            title="OpenRouter",
            base_url="https://openrouter.ai/api/v1",
            headers=(("x-openrouter-title", "CallMissed"),),
        ),
        Vendor(
            name="clarifai",
            title="Clarifai",
            base_url="https://api.clarifai.com/v2/ext/openai/v1",
        ),
        Vendor(
            name="sarvam",
            title="Sarvam",
            base_url="https://api.sarvam.ai/v1",
            key_header="api-subscription-key",
            key_prefix="",
            takes_stream_options=False,
            drops=frozenset({"stream_options", "user", "metadata", "store", "logit_bias", "logprobs"}),
        ),
    )
}


class LocalEngine(Protocol):
    """The chat engine inside this server, as the gateway sees it: an address and a key."""

    @property
    def available(self) -> bool:
        """Whether weights and engine are there."""
        ...

    async def address(self) -> tuple[str, str]:
        """Base URL (ending in `/v1`) and key of the running engine; starts it when it is not running."""
        ...


@dataclass(frozen=True, slots=True)
class Upstream:
    """A vendor that can be called now: where, and with which headers."""

    vendor: Vendor
    chat: Address
    headers: HeaderBlock


class Vendors:
    """The vendors this server is configured for."""

    def __init__(self, settings: Settings, engine: LocalEngine) -> None:
        self._engine = engine
        self._local: tuple[str, Upstream] | None = None
        self._ready: dict[str, Upstream] = {}
        for vendor in VENDORS.values():
            key, address = settings.vendor_key(vendor.name), settings.vendor_base_url(vendor.name)
            if vendor.base_url and (key or address):
                self._ready[vendor.name] = _upstream(vendor, address or vendor.base_url, key)

    def is_ready(self, name: str) -> bool:
        """Whether `name` is configured (for `local`: whether the engine can run)."""
        return self._engine.available if name == "local" else name in self._ready

    async def upstream(self, name: str) -> Upstream:
        """Where to call a vendor that `is_ready`; starts the local engine on its first use."""
        if name != "local":
            return self._ready[name]
        address, key = await self._engine.address()
        if self._local is None or self._local[0] != address:
            self._local = (address, _upstream(VENDORS["local"], address, key))
        return self._local[1]


def _upstream(vendor: Vendor, base_url: str, key: str | None) -> Upstream:
    pairs = [("content-type", "application/json"), ("accept", "*/*"), *vendor.headers]
    if key:
        pairs.append((vendor.key_header, vendor.key_prefix + key))
    return Upstream(
        vendor=vendor,
        chat=Address.parse(f"{base_url}/chat/completions"),
        headers=header_block([(name.encode(), value.encode()) for name, value in pairs]),
    )
